"""Numbers with their intervals, how these were computed, and what is to be said about them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from rlssl.analysis.statistics.bootstrap import (
    NUM_RESAMPLES,
    bootstrap_difference_interval,
    percentiles,
    resample,
)
from rlssl.analysis.statistics.cautions import (
    FEW_SEEDS_OF_BOOTSTRAP,
    Caution,
    cautions_of,
)
from rlssl.analysis.statistics.checks import FloatArray, Interval, check_resampling, matrix, vector
from rlssl.analysis.statistics.intervals import (
    MIN_SEEDS,
    share_difference_interval,
    welch_interval,
)
from rlssl.analysis.statistics.over_tasks import (
    iqm,
    mean_of_tasks,
    median_of_tasks,
    optimality_gap,
)

#: Name -> statistic of [num_tasks, num_seeds] normalized scores.
AGGREGATES: dict[str, Callable[[FloatArray], float]] = {
    "IQM": iqm,
    "median": median_of_tasks,
    "mean": mean_of_tasks,
    "optimality gap": optimality_gap,
}


#: A percentile of a bootstrap with fewer resamples beyond it is not known.
_FEWEST_IN_A_TAIL = 10


@dataclass(frozen=True)
class Aggregate:
    """A statistic over tasks and seeds.

    Args:
        name: A key of ``AGGREGATES``.
        value: The statistic of all scores.
        interval: Stratified bootstrap interval; None with fewer than three seeds.
    """

    name: str
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """The difference of two means over seeds.

    Args:
        value: Mean of the first side minus mean of the second; NaN if a side has no score.
        interval: Its interval; None if there is none, and a caution says why.
        method: How the interval was computed, in words; "" without one.
        cautions: What is to be said about the interval, each with its side.
    """

    value: float
    interval: Interval | None
    method: str
    cautions: Sequence[Caution] = field(default=())


def aggregates(
    scores: ArrayLike, *, confidence: float = 0.95, num_resamples: int = 2_000, seed: int = 0
) -> tuple[list[Aggregate], list[Caution]]:
    """IQM, median, mean and optimality gap over tasks, with stratified bootstrap intervals.

    All four are computed from the same resamples.

    Args:
        scores: [num_tasks, num_seeds], finite, normalized so that tasks can be averaged.
        confidence: As in ``bootstrap_interval``.
        num_resamples: As in ``bootstrap_interval``.
        seed: As in ``bootstrap_interval``.

    Returns:
        The aggregates in the order of ``AGGREGATES``, and what is to be said about the intervals.

    Raises:
        ValueError: As in ``stratified_bootstrap_interval``.

    Example:
        >>> found, cautions = aggregates([[0.0, 0.2], [1.0, 0.8]])
        >>> [(one.name, round(one.value, 3)) for one in found]
        [('IQM', 0.5), ('median', 0.5), ('mean', 0.5), ('optimality gap', 0.5)]
        >>> [one.code for one in cautions]
        ['two_seeds']

    Source:
        Agarwal et al. 2021, arXiv:2108.13264, sections 4.1 and 4.3.
    """
    values = matrix("scores", scores)
    check_resampling(confidence, num_resamples)
    # Only the number of seeds counts: scores of different tasks are no sample of one distribution.
    cautions = [
        one
        for one in cautions_of(list(range(values.shape[1])), "bootstrap")
        if one.code not in ("no_spread", "skewed")
    ]
    if values.shape[1] < MIN_SEEDS:
        found = [Aggregate(name, f(values), None) for name, f in AGGREGATES.items()]
        return found, cautions
    generator = np.random.default_rng(seed)
    resampled = [resample(values, generator) for _ in range(num_resamples)]
    return [
        Aggregate(name, f(values), percentiles([f(one) for one in resampled], confidence))
        for name, f in AGGREGATES.items()
    ], cautions


def difference(
    scores: ArrayLike,
    others: ArrayLike,
    *,
    names: tuple[str, str] = ("A", "B"),
    are_shares: bool = False,
    are_bounded: bool = False,
    confidence: float = 0.95,
) -> Difference:
    """The difference of the means of two sides, with the interval that fits the scores.

    Shares get Newcombe's interval. Other scores get Welch's t interval; or a percentile bootstrap,
    if both sides have ten seeds or more and one of them is far from normal. There is no interval if
    a side has fewer than three seeds, or if all scores of each side are equal. Nor is there one if
    a bootstrap would need a confidence above 0.998, for which its 10,000 resamples are too few.

    Args:
        scores: [num_seeds], finite; may be empty.
        others: As ``scores``.
        names: Names of the two sides, for cautions.
        are_shares: Whether scores are shares in [0, 1], such as success rates.
        are_bounded: Whether scores cannot leave [0, 1]: the interval is cut to [-1, 1].
        confidence: As in ``mean_interval``.

    Raises:
        ValueError: If a score is not finite, or no share though ``are_shares``.

    Example:
        >>> found = difference([4, 5, 6], [1, 2, 3])
        >>> found.value, found.method, [round(end, 2) for end in found.interval]
        (3.0, 'Welch t', [0.73, 5.27])
        >>> print(found.cautions[0].words.partition(":")[0])
        A
    """
    sides = [_scores(name, side) for name, side in zip(names, (scores, others), strict=True)]
    value = float(sides[0].mean() - sides[1].mean()) if all(map(len, sides)) else math.nan
    cautions = [cautions_of(list(side), "Wilson" if are_shares else "t") for side in sides]
    codes = [{one.code for one in side} for side in cautions]
    interval, method = _interval_of_difference(sides, codes, are_shares, confidence)
    if are_bounded and interval is not None:
        interval = Interval(max(interval.low, -1.0), min(interval.high, 1.0))
    named = [
        Caution(one.code, f"{name}: {one.words}")
        for name, side in zip(names, cautions, strict=True)
        for one in side
    ]
    return Difference(value, interval, method, tuple(named))


def _scores(name: str, side: ArrayLike) -> FloatArray:
    values = np.asarray(side, np.float64)
    return vector(f"scores of {name}", values) if values.size else values.reshape(0)


def _interval_of_difference(
    sides: Sequence[FloatArray], codes: Sequence[set[str]], are_shares: bool, confidence: float
) -> tuple[Interval | None, str]:
    """The interval that fits, and its method in words."""
    ours, theirs = sides
    if min(len(ours), len(theirs)) < MIN_SEEDS:
        return None, ""
    if are_shares:
        interval = share_difference_interval(ours, theirs, confidence=confidence)
        return interval, "Newcombe, for shares"
    if all("no_spread" in side for side in codes):
        return None, ""
    if _is_unfit_for_welch(sides, codes):
        if (1.0 - confidence) / 2 * NUM_RESAMPLES < _FEWEST_IN_A_TAIL:
            return None, ""
        interval = bootstrap_difference_interval(ours, theirs, _mean, confidence=confidence)
        return interval, "percentile bootstrap, because scores are far from normal"
    return welch_interval(ours, theirs, confidence=confidence), "Welch t"


def _mean(scores: FloatArray) -> float:
    return float(scores.mean())


def _is_unfit_for_welch(sides: Sequence[FloatArray], codes: Sequence[set[str]]) -> bool:
    enough = all(len(side) >= FEW_SEEDS_OF_BOOTSTRAP for side in sides)
    return enough and any("skewed" in side for side in codes)
