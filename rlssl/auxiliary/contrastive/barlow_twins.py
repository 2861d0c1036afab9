"""Barlow Twins: features of two views correlate with themselves and with no other feature."""

import dataclasses

from torch import Tensor

from rlssl.auxiliary.contrastive.two_views import ProjectionConfig, TwoViewLoss
from rlssl.losses import barlow_twins


class BarlowTwins(TwoViewLoss):
    """Redundancy reduction between two views of each observation; it needs no negatives.

    The statistics are those of the rows of all Learners. The loss is one number for the batch,
    given once for each row. It starts near ``projection_dim``.

    Source:
        Zbontar et al. 2021, arXiv:2103.03230. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(ProjectionConfig):
        """Options of Barlow Twins."""

        # Weight of the correlations between different features; >= 0; 0.0051 as published.
        off_diagonal: float = 0.0051
        # 64, because more features than rows of a minibatch cannot be uncorrelated (paper: 8192
        # features, 2048 rows).
        projection_dim: int = 64

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if not self.off_diagonal >= 0:
                raise ValueError(f"off_diagonal must be >= 0; got {self.off_diagonal}.")

    config: Config

    terms = ("barlow_twins",)

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """``barlow_twins``, [N] times the same number, no unit."""
        loss = barlow_twins(first, second, off_diagonal=self.config.off_diagonal)
        return {"barlow_twins": loss}
