"""Percentile bootstrap over seeds. Tasks are never resampled."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlssl.analysis.statistics.checks import (
    FloatArray,
    Interval,
    check_resampling,
    matrix,
    vector,
)
from rlssl.analysis.statistics.over_tasks import iqm, performance_profile

Statistic = Callable[[FloatArray], float]

#: Resamples of an interval, unless another number is given.
NUM_RESAMPLES = 10_000


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of any statistic of one task's scores.

    Args:
        scores: [num_seeds], finite. With fewer than about 10, prefer ``mean_interval``.
        statistic: Maps [num_seeds] scores, drawn with replacement, to a number.
        confidence: Share of the resampled statistics inside the interval; in (0, 1).
        num_resamples: Number of resamples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Returns:
        The interval, in the unit of the statistic.

    Raises:
        ValueError: If there are no scores, one is not finite, or an option is out of range.

    Example:
        >>> bootstrap_interval([0, 3, 6], np.mean, confidence=0.8)
        Interval(low=1.0, high=5.0)
    """
    return stratified_bootstrap_interval(
        vector("scores", scores)[np.newaxis],
        lambda resampled: statistic(resampled[0]),
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )


def stratified_bootstrap_interval(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic over several tasks.

    The seeds of each task are resampled with replacement, independently of the other tasks. So
    every resample contains every task, with the same number of seeds as the experiment.

    Args:
        scores: [num_tasks, num_seeds], finite, normalized so that tasks can be averaged.
        statistic: Maps resampled scores [num_tasks, num_seeds] to a number.
        confidence: As in ``bootstrap_interval``.
        num_resamples: As in ``bootstrap_interval``.
        seed: As in ``bootstrap_interval``.

    Returns:
        The interval, in the unit of the statistic.

    Raises:
        ValueError: If ``scores`` is not [num_tasks, num_seeds], one is not finite, or an option is
            out of range.

    Source:
        Agarwal et al. 2021, arXiv:2108.13264, section 4.1.

    Example:
        The seeds of each task agree, so every resample has the mean (0 + 10) / 2 = 5.

        >>> stratified_bootstrap_interval([[0, 0, 0], [10, 10, 10]], np.mean, num_resamples=100)
        Interval(low=5.0, high=5.0)
    """
    values = matrix("scores", scores)
    check_resampling(confidence, num_resamples)
    generator = np.random.default_rng(seed)
    resampled = [statistic(resample(values, generator)) for _ in range(num_resamples)]
    return percentiles(resampled, confidence)


def resample(scores: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Draws each row's entries with replacement from that row."""
    columns = generator.integers(scores.shape[1], size=scores.shape)
    return np.take_along_axis(scores, columns, axis=1)


def percentiles(resampled: Sequence[float], confidence: float) -> Interval:
    """The middle part of resampled statistics."""
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def bootstrap_difference_interval(
    scores: ArrayLike,
    others: ArrayLike,
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of ``statistic(scores) - statistic(others)``.

    The seeds of both sides are resampled independently.

    Args:
        scores: [num_seeds], finite. With fewer than about 10, prefer ``welch_interval``.
        others: As ``scores``; the number of seeds may differ.
        statistic: As in ``bootstrap_interval``.
        confidence: As in ``bootstrap_interval``.
        num_resamples: As in ``bootstrap_interval``.
        seed: As in ``bootstrap_interval``.

    Returns:
        The interval around the difference, in the unit of the statistic.

    Raises:
        ValueError: As in ``bootstrap_interval``.

    Example:
        The four resamples of 0, 2 have the means 0, 1, 1, 2; those of 5 are 5.

        >>> bootstrap_difference_interval([5], [0, 2], np.mean, confidence=0.99)
        Interval(low=3.0, high=5.0)
    """
    ours = vector("scores", scores)[np.newaxis]
    theirs = vector("others", others)[np.newaxis]
    check_resampling(confidence, num_resamples)
    generator = np.random.default_rng(seed)
    resampled = [
        statistic(resample(ours, generator)[0]) - statistic(resample(theirs, generator)[0])
        for _ in range(num_resamples)
    ]
    return percentiles(resampled, confidence)


def performance_profile_bounds(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Stratified bootstrap interval of ``performance_profile`` at each threshold.

    Each interval is for its own threshold; the whole profile leaves the band more often.

    Args:
        scores: [num_tasks, num_seeds], finite, normalized.
        thresholds: [num_thresholds].
        confidence: As in ``bootstrap_interval``.
        num_resamples: As in ``bootstrap_interval``.
        seed: As in ``bootstrap_interval``.

    Returns:
        [num_thresholds], [num_thresholds]: lower and upper ends, in [0, 1].

    Raises:
        ValueError: As in ``stratified_bootstrap_interval``.

    Example:
        All runs are above 0 and none above 3, in every resample.

        >>> performance_profile_bounds([[1, 2], [2, 3]], [0, 3], num_resamples=50)
        (array([1., 0.]), array([1., 0.]))
    """
    values = matrix("scores", scores)
    check_resampling(confidence, num_resamples)
    generator = np.random.default_rng(seed)
    resampled = [
        performance_profile(resample(values, generator), thresholds) for _ in range(num_resamples)
    ]
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(np.stack(resampled), [tail, 1.0 - tail], axis=0)
    return low, high
