"""Statistics over few seeds: point estimates and their confidence intervals.

Pure functions on numpy arrays. Scores over several tasks are [num_tasks, num_seeds]. A bootstrap
resamples seeds, never tasks, because the tasks of a benchmark are not a random sample.

Source:
    Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice", arXiv:2108.13264.
"""

from rlssl.analysis.statistics.bootstrap import (
    Statistic,
    bootstrap_difference_interval,
    bootstrap_interval,
    performance_profile_bounds,
    stratified_bootstrap_interval,
)
from rlssl.analysis.statistics.cautions import FEW_SEEDS, Caution, cautions_of
from rlssl.analysis.statistics.checks import FloatArray, Interval
from rlssl.analysis.statistics.estimates import Aggregate, Difference, aggregates, difference
from rlssl.analysis.statistics.improvement import (
    probability_of_improvement,
    probability_of_improvement_interval,
    rank_interval,
)
from rlssl.analysis.statistics.intervals import (
    MIN_SEEDS,
    mean_half_width,
    mean_interval,
    share_difference_interval,
    welch_interval,
    wilson_bounds,
    wilson_interval,
)
from rlssl.analysis.statistics.normalized import dmc_normalized, human_normalized
from rlssl.analysis.statistics.over_tasks import (
    area_under_curve,
    iqm,
    mean_of_tasks,
    median_of_tasks,
    optimality_gap,
    performance_profile,
)
from rlssl.analysis.statistics.several import confidence_of_each_pair

__all__ = [
    "FEW_SEEDS",
    "MIN_SEEDS",
    "Aggregate",
    "Caution",
    "Difference",
    "FloatArray",
    "Interval",
    "Statistic",
    "aggregates",
    "area_under_curve",
    "bootstrap_difference_interval",
    "bootstrap_interval",
    "cautions_of",
    "confidence_of_each_pair",
    "difference",
    "dmc_normalized",
    "human_normalized",
    "iqm",
    "mean_half_width",
    "mean_interval",
    "mean_of_tasks",
    "median_of_tasks",
    "optimality_gap",
    "performance_profile",
    "performance_profile_bounds",
    "probability_of_improvement",
    "probability_of_improvement_interval",
    "rank_interval",
    "share_difference_interval",
    "stratified_bootstrap_interval",
    "welch_interval",
    "wilson_bounds",
    "wilson_interval",
]
