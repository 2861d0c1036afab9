"""The median stopping rule for points of a search, which several seeds repeat."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlssl.experiment.tuning.schedulers.point_scheduler import PointScheduler, PointScores


class MedianStopping(PointScheduler):
    """Stops a point whose best mean so far is below the median of the others' running averages.

    The mean is over the seeds at a rung. The running average of a point is the average of its means
    at all rungs so far.

    Args:
        min_points: Other points that must have passed a rung before any point stops there; >= 1.
        **arguments: Those of `PointScheduler`.

    Source:
        Golovin et al. 2017, Google Vizier, section 3.2.2, doi:10.1145/3097983.3098043. Differs: a
        point has several seeds; points that still run count, at the same env steps.
    """

    name = "median stopping"

    def __init__(self, *, min_points: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.min_points = min_points

    def is_behind(self, point: PointScores, others: Sequence[PointScores], rung: int) -> bool:
        """Whether the best mean is below the median; False with too few other points."""
        if len(others) < self.min_points:
            return False
        sign = self.objective.sign
        averages = [np.mean(sign * _means_until(other, rung)) for other in others]
        return bool(np.max(sign * _means_until(point, rung)) < np.median(averages))


def _means_until(point: PointScores, rung: int) -> np.ndarray:
    return np.array([mean for at, mean in point.means.items() if at <= rung])
