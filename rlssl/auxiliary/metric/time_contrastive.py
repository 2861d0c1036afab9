"""Time-contrastive loss: frames that are near in time are nearer than frames that are far."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.pairs import draw_pairs
from rlssl.auxiliary.windows import VALID, Window, latents_at, mean_over_valid
from rlssl.losses.metric_learning import triplet
from rlssl.networks.layers.linear import Linear


class TimeContrastive(EncoderLoss):
    """Triplets of an observation, a frame soon after it, and a later frame of the same episode.

    With the encoder phi, a linear layer h and normalized embeddings e = h(phi(o)) / ||h(phi(o))||::

        loss = max(0, ||e_t - e_p||^2 - ||e_t - e_n||^2 + margin)
               p - t uniform in [1, near], n - t uniform in [far, farthest]

    Distances between ``near`` and ``far`` are neither. A row whose episode ends before ``far`` has
    no triplet and weight 0. On PPO and A3C, windows end with the fragment.

    Source:
        Sermanet et al. 2018, arXiv:1704.06888 (time-contrastive networks, single view). Differs:
        see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of the time-contrastive loss."""

        # Largest distance of a positive, agent steps; >= 1. Published: 6 frames of a video.
        near: int = 3
        # Smallest and largest distance of a negative, agent steps; near < far <= farthest.
        # Published: more than 12 frames. The defaults fit into a fragment of A3C, 20 steps.
        far: int = 7
        farthest: int = 12
        # Margin between the squared distances, in [0, 4]; > 0.
        margin: float = 0.2
        # Features of an embedding; >= 1; published: 32.
        embedding_dim: int = 32

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("near", "far", "farthest", "embedding_dim")
            if not self.near < self.far <= self.farthest:
                raise ValueError(
                    "the distances must be near < far <= farthest; got "
                    f"near={self.near}, far={self.far}, farthest={self.farthest}."
                )
            if not self.margin > 0:
                raise ValueError(f"margin must be > 0; got {self.margin}.")

    config: Config

    reads = frozenset({Columns.OBS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(after=config.farthest)
        self.head = Linear(int(self.encoder.output_dim), config.embedding_dim)
        # Embeddings [N, 3, E] and which rows have a triplet, of the last update, for `metrics`.
        self._compared: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``triplet``, [N], squared distance of unit vectors, in [0, 4 + margin]."""
        valid = batch[VALID]
        first, total = self.peers.rows(len(valid))
        generator = self.update_rng.generator(valid.device)
        # The draws of all Learners, so that several draw what one would draw.
        draws = torch.rand((total, 4), generator=generator, device=generator.device)
        own = draws[first : first + len(valid)].to(valid.device)
        near, far = (1, self.config.near), (self.config.far, self.config.farthest)
        positive = draw_pairs(valid, 0, [near], own[:, :2])
        negative = draw_pairs(valid, 0, [far], own[:, 2:])
        places = torch.stack([torch.zeros_like(positive.place), positive.place, negative.place], 1)
        embeddings = F.normalize(self.head(self._latents(batch, places)), dim=-1)
        anchors, near_rows, far_rows = embeddings.unbind(dim=1)
        if self.config.shuffled_positives:
            near_rows = self.of_other_rows(near_rows, generator)
        found = positive.found & negative.found
        self._compared = embeddings.detach(), found
        values = triplet(anchors, near_rows, far_rows, margin=self.config.margin)
        return {"triplet": mean_over_valid(values, found, self.peers)}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``accuracy``: the share of triplets whose near frame is nearer; 0.5 by chance."""
        del batch
        if self._compared is None or not self._compared[1].any():
            return {}
        anchors, near, far = self._compared[0][self._compared[1]].unbind(dim=1)
        near_distance, far_distance = (
            (anchors - other).square().sum(dim=-1) for other in (near, far)
        )
        return {"accuracy": (near_distance < far_distance).float().mean()}

    def _latents(self, batch: Mapping[str, Any], places: Tensor) -> Tensor:
        """[N, 3, D], latents of the rows and of their frames."""
        shared = self.shared_latents(batch, Columns.OBS)
        return latents_at(self.encoder, batch, places, shared)
