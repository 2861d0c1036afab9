"""Frame order: the latents of three frames must tell whether the middle one lies between."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlssl.auxiliary.predictive.pretext import PretextConfig, PretextLoss
from rlssl.auxiliary.windows import VALID, Window


class FrameOrder(PretextLoss):
    """Three frames of an episode, in order or with a wrong one in the middle: which is it?

    Of five frames a, b, c, d, e that are ``delta`` steps apart, the row is b. The classifier g sees
    the latents of (b, c, d) with probability 1/2; else those of (b, a, d) or (b, e, d). The loss is
    the cross-entropy of the answer whether the middle one is c: log 2 nats at initialization.

    Each frame stands alone: stacks of frames would show the order. Rows where c equals a or e, such
    as still scenes, and rows whose five frames are not in one episode have weight 0. Motion that
    repeats or reverses cannot be told.

    Source:
        Misra et al. 2016, arXiv:1603.08561 (shuffle and learn). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(PretextConfig):
        """Options of the frame order."""

        # Agent steps between two of the five frames; >= 1.
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
        super().__init__(config, num_latents=3, **given)
        self.window = Window(before=config.delta, after=3 * config.delta)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``frame_order``, [N], nats."""
        valid = batch[VALID]
        generator = self.update_rng.generator(valid.device)
        label, is_late = (self.draw(valid, 2, generator) for _ in range(2))
        a, b, c, d, e = (step * self.config.delta for step in range(5))
        wrong = torch.where(is_late.bool(), e, a)
        middle = torch.where(label.bool(), c, wrong)
        places = torch.stack([torch.full_like(middle, b), middle, torch.full_like(middle, d)], 1)
        latents = self.latents_of_frames(batch, places)
        counts = valid[:, a] & valid[:, e] & self.differ(batch, a, c) & self.differ(batch, c, e)
        return {"frame_order": self.classify(latents.flatten(1), label, counts, generator)}
