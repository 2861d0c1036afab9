"""Asynchronous successive halving (ASHA) for points of a search, which several seeds repeat."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlssl.experiment.tuning.schedulers.point_scheduler import PointScheduler, PointScores


class SeededASHA(PointScheduler):
    """ASHA on env steps, where a point is judged by the mean over its seeds.

    At each rung (``grace * factor^k`` env steps), a point is behind if its mean is below the
    ``1 - 1/factor`` quantile of the other points.

    Args:
        reduction_factor: One point in this many continues at each rung; >= 2.
        **arguments: Those of `PointScheduler`.

    Source:
        Li et al. 2020, arXiv:1810.05934. Differs: a point has several seeds and one score.
    """

    name = "ASHA"

    def __init__(self, *, reduction_factor: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.reduction_factor = reduction_factor

    def is_behind(self, point: PointScores, others: Sequence[PointScores], rung: int) -> bool:
        """Whether the point's mean is below the quantile; False without other points."""
        if not others:
            return False
        sign = self.objective.sign
        ranked = sign * np.array([other.means[rung] for other in others])
        cutoff = np.quantile(ranked, 1 - 1 / self.reduction_factor)
        return bool(sign * point.means[rung] < cutoff)
