"""VICReg: two views are embedded alike, with features that vary and do not correlate."""

import dataclasses

from torch import Tensor

from rlssl.auxiliary.contrastive.two_views import ProjectionConfig, TwoViewLoss
from rlssl.losses import vicreg


class VICReg(TwoViewLoss):
    """Variance, invariance and covariance of two views of each observation.

    Variances and covariances are those of the rows of all Learners. These two losses are one number
    for the batch, given once for each row. Constant embeddings cost 24.75.

    Source:
        Bardes et al. 2021, arXiv:2105.04906. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(ProjectionConfig):
        """Options of VICReg; the weights are as published."""

        # Weight of the squared distance of the two views, mean over features; >= 0.
        invariance: float = 25.0
        # Weight of what each feature's standard deviation (std) lacks to 1; >= 0.
        variance: float = 25.0
        # Weight of the covariances between different features; >= 0.
        covariance: float = 1.0
        # 64, because more features than rows of a minibatch cannot be uncorrelated (paper: 8192
        # features, 2048 rows).
        projection_dim: int = 64

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            for key in ("invariance", "variance", "covariance"):
                if not getattr(self, key) >= 0:
                    raise ValueError(f"{key} must be >= 0; got {getattr(self, key)}.")
            if self.invariance + self.variance == 0:
                raise ValueError(
                    "invariance and variance are both 0: constant embeddings would be the best "
                    "ones. Set one of them > 0."
                )

    config: Config

    terms = ("invariance", "variance", "covariance")

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """The weighted ``invariance``, ``variance`` and ``covariance``, each [N], no unit."""
        options = self.config
        return vicreg(
            first,
            second,
            invariance=options.invariance,
            variance=options.variance,
            covariance=options.covariance,
        )
