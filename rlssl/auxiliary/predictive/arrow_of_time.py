"""Arrow of time: the latents of two frames must tell which one came first."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlssl.auxiliary.predictive.pretext import PretextConfig, PretextLoss
from rlssl.auxiliary.windows import VALID, Window


class ArrowOfTime(PretextLoss):
    """Two frames of an episode, in their order or in the reverse one; the latents must tell which.

    With the encoder phi and a classifier g, the loss is the cross-entropy of
    softmax(g(phi(x), phi(y))) against the order of x and y: log 2 nats at initialization. Where
    every motion is as likely as its reverse, log 2 is also the best that can be reached.

    Each frame stands alone: stacks of frames would show the order. Rows whose two frames are equal,
    or whose later frame is over an end, have weight 0.

    Source:
        Wei et al. 2018, "Learning and using the arrow of time". Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(PretextConfig):
        """Options of the arrow of time."""

        # Agent steps between the two frames; >= 1.
        delta: int = 1

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("delta")

    config: Config

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, num_latents=2, **given)
        self.window = Window(after=config.delta)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``arrow_of_time``, [N], nats."""
        valid, delta = batch[VALID], self.config.delta
        generator = self.update_rng.generator(valid.device)
        label = self.draw(valid, self.num_classes, generator)
        places = (delta * torch.arange(2, device=valid.device)).expand(len(valid), 2)
        latents = self.latents_of_frames(batch, places)
        pairs = torch.where(label.bool()[:, None, None], latents, latents.flip(1))
        counts = valid[:, delta] & self.differ(batch, 0, delta)
        return {"arrow_of_time": self.classify(pairs.flatten(1), label, counts, generator)}
