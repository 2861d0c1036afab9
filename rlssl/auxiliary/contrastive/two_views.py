"""Base of the losses that embed two views alike and compare all rows of the batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.contrastive.base import ViewConfig, ViewLoss, spread
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.heads import ProjectionHead
from rlssl.peers import all_rows, own_rows


@dataclasses.dataclass(frozen=True)
class ProjectionConfig(ViewConfig):
    """Options of losses that compare projections of latents."""

    # Features of the projection's hidden layer; >= 1.
    hidden: int = 256
    # Features of the embeddings that the loss compares; >= 1.
    projection_dim: int = 128

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        self._check_whole("hidden", "projection_dim")


class TwoViewLoss(ViewLoss):
    """Base of NT-Xent, Barlow Twins and VICReg.

    Encoder and projection embed both views, with gradients. `compare` sees the embeddings of all
    Learners' rows, so several Learners get the loss and the gradient of one.

    With fewer than two rows there is nothing to compare: the losses are 0, connected to the graph,
    and the update is counted in ``skipped_updates``.
    """

    Config = ProjectionConfig
    config: ProjectionConfig

    #: Names of the losses that `compare` gives.
    terms: ClassVar[tuple[str, ...]] = ()

    num_skipped: Tensor

    def __init__(self, config: ProjectionConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.projection = ProjectionHead(
            int(self.encoder.output_dim), hidden=config.hidden, out_dim=config.projection_dim
        )
        self.register_buffer("num_skipped", torch.zeros((), dtype=torch.int64))
        self._skips = False
        # The embeddings of both views in the last update, for `metrics`; None: too few rows.
        self._compared: tuple[Tensor, Tensor] | None = None

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Losses by name, each [N], of the embeddings [N, E] of two views."""
        raise NotImplementedError

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The losses ``terms``, each [N]; zero, connected to the graph, for fewer than 2 rows."""
        generator = self.update_rng.generator(batch[Columns.OBS].device)
        own_first, own_second = self._embed(batch, *self.draw_views(batch, generator))
        first, second = (all_rows(own, self.peers) for own in (own_first, own_second))
        self._skips = len(first) < 2
        self._compared = None
        if self._skips:
            return dict.fromkeys(self.terms, 0.0 * (own_first + own_second).sum(dim=-1))
        if self.config.shuffled_positives:
            order = torch.randperm(len(second), generator=generator, device=generator.device)
            second = second[order.to(second.device)]
        self._compared = first.detach(), second.detach()
        found = self.compare(first, second)
        return {name: own_rows(found[name], len(own_first), self.peers) for name in self.terms}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``skipped_updates``, and what `measure` says of the last batch if it had two rows."""
        del batch
        found = {} if self._compared is None else self.measure(*self._compared)
        return {"skipped_updates": self.num_skipped.float(), **found}

    def measure(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Metrics of the embeddings [N, E] of two views: their `spread`."""
        del second
        return spread(first)

    def after_update(self) -> None:
        """Counts a skipped update, and does as the base."""
        self.num_skipped.add_(int(self._skips))
        self._skips = False
        super().after_update()

    def _embed(
        self, batch: Mapping[str, Any], first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor]:
        if first is batch.get(AUGMENTED_OBS):
            latents = torch.cat([self.encode(batch, first), self.encode(batch, second)])
        else:
            latents = self.encode(batch, torch.cat([first, second]))
        embedded: Tensor = self.projection(latents)
        return embedded[: len(first)], embedded[len(first) :]
