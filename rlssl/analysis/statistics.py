"""Statistics over few seeds: point estimates and their confidence intervals.

Pure functions on numpy arrays. Scores over several tasks are [num_tasks, num_seeds]. A bootstrap
resamples seeds, never tasks, because the tasks of a benchmark are not a random sample.

Source:
    Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice", arXiv:2108.13264.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], float]

#: Fewest seeds with an interval in tables and curves. The t interval of two seeds reaches 9 times
#: their standard deviation to either side, so it says nothing but "two seeds".
MIN_SEEDS = 3


class Interval(NamedTuple):
    """A confidence interval, in the unit of the scores."""

    low: float
    high: float


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of all scores.

    It sorts the n scores, drops ``floor(n / 4)`` at each end and averages the rest. One lucky seed
    changes it less than the mean, and it is far more precise than the median. With at most three
    scores it is the mean.

    Args:
        scores: Scores of any shape, pooled. At least one, all finite.

    Returns:
        The mean, in the unit of the scores.

    Raises:
        ValueError: If there are no scores, or one is not finite.

    Example:
        Of eight scores, two are dropped at each end: (2 + 3 + 4 + 5) / 4 = 3.5.

        >>> iqm([0, 1, 2, 3, 4, 5, 6, 1000])
        3.5

    Source:
        Agarwal et al. 2021, arXiv:2108.13264, section 4.3; equals
        ``scipy.stats.trim_mean(scores, 0.25, axis=None)``.
    """
    ordered = np.sort(_finite("scores", scores), axis=None)
    trimmed = ordered.size // 4
    return float(ordered[trimmed : ordered.size - trimmed].mean())


def mean_interval(scores: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean over seeds.

    ``mean +- t * s / sqrt(n)``, where t is the quantile for n - 1 degrees of freedom and s the
    sample standard deviation. Use it for few seeds: a bootstrap of 3 scores can only repeat these
    scores, so its interval is far too narrow. It assumes that scores are roughly normal. For
    shares, such as success rates, use ``wilson_interval``.

    Args:
        scores: [num_seeds], at least two, finite.
        confidence: Share of repeated experiments whose interval contains the true mean; in (0, 1).

    Returns:
        The interval around the mean.

    Raises:
        ValueError: If there are fewer than two scores, one is not finite, or ``confidence`` is
            outside (0, 1).

    Example:
        Mean 4, s = sqrt(2), s / sqrt(2) = 1, t(0.75, 1) = tan(pi / 4) = 1.

        >>> low, high = mean_interval([3, 5], confidence=0.5)
        >>> round(low, 6), round(high, 6)
        (3.0, 5.0)
    """
    values = _vector("scores", scores)
    half = float(mean_half_width(values, confidence=confidence))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def mean_half_width(scores: ArrayLike, *, confidence: float = 0.95) -> FloatArray:
    """Half the width of Student's t interval, for every column of ``scores`` at once.

    Args:
        scores: [num_seeds, ...], at least two seeds, finite.
        confidence: As in ``mean_interval``.

    Returns:
        [...], in the unit of the scores.

    Raises:
        ValueError: As in ``mean_interval``.

    Example:
        The first column has the half width 1, as in ``mean_interval``; the second has no spread.

        >>> mean_half_width([[0, 5], [2, 5]], confidence=0.5).round(6)
        array([1., 0.])
    """
    from scipy.special import stdtrit  # imported here, because scipy is slow to import

    values = _finite("scores", scores)
    _check_confidence(confidence)
    num_seeds = values.shape[0]
    if num_seeds < 2:
        raise ValueError(
            f"scores must have at least 2 seeds; got {num_seeds}. One seed has no interval: run "
            "more, with `seeds: [0, 1, 2]`."
        )
    quantile = stdtrit(num_seeds - 1, 0.5 + confidence / 2)
    return np.asarray(quantile * values.std(axis=0, ddof=1) / np.sqrt(num_seeds))


def wilson_interval(scores: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a mean share over seeds, for scores in [0, 1].

    With the mean share p of n seeds, and the normal quantile z:
    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``. It lies in [0, 1], and
    has a width also if all seeds agree. Student's t interval has no width then: for five seeds that
    solve a task with probability 0.9, it contains 0.9 in only 41 % of experiments.

    Each seed counts as one trial, because episodes of one seed are not independent. So the interval
    fits scores that are 0 or 1 (solved or not), and is wider than needed if shares of the seeds lie
    close together: their variance is at most p (1 - p).

    Args:
        scores: [num_seeds], at least one, in [0, 1].
        confidence: As in ``mean_interval``.

    Returns:
        The interval around the mean share.

    Raises:
        ValueError: If there are no scores, one is outside [0, 1], or ``confidence`` is outside
            (0, 1).

    Example:
        Four of five seeds solved the task: p = 0.8, z = 1.96.

        >>> low, high = wilson_interval([1, 1, 1, 1, 0])
        >>> round(low, 3), round(high, 3)
        (0.376, 0.964)

    Source:
        Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference";
        Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion".
    """
    low, high = wilson_bounds(_vector("scores", scores), confidence=confidence)
    return Interval(float(low), float(high))


def wilson_bounds(scores: ArrayLike, *, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Both ends of Wilson's interval, for every column of ``scores`` at once.

    Args:
        scores: [num_seeds, ...], in [0, 1].
        confidence: As in ``mean_interval``.

    Returns:
        [...], [...]: lower and upper ends, in [0, 1].

    Raises:
        ValueError: As in ``wilson_interval``.

    Example:
        Three seeds that all failed, and three that all succeeded:

        >>> low, high = wilson_bounds([[0, 1], [0, 1], [0, 1]])
        >>> low.round(3), high.round(3)
        (array([0.   , 0.439]), array([0.561, 1.   ]))
    """
    from scipy.special import ndtri  # imported here, because scipy is slow to import

    values = _finite("scores", scores)
    _check_confidence(confidence)
    if values.min() < 0.0 or values.max() > 1.0:
        bad = values[(values < 0.0) | (values > 1.0)][0]
        raise ValueError(f"scores must be shares in [0, 1]; got {bad:g}. Use mean_interval.")
    num_seeds, share = values.shape[0], values.mean(axis=0)
    per_seed = float(ndtri(0.5 + confidence / 2)) ** 2 / num_seeds  # z^2 / n
    middle = share + per_seed / 2
    half = np.sqrt(per_seed * (share * (1.0 - share) + per_seed / 4))
    low, high = (middle - half) / (1.0 + per_seed), (middle + half) / (1.0 + per_seed)
    # Rounding may leave [0, 1].
    return np.clip(low, 0.0, share), np.clip(high, share, 1.0)


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
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
        _vector("scores", scores)[np.newaxis],
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
    num_resamples: int = 10_000,
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
    values = _matrix("scores", scores)
    _check_resampling(confidence, num_resamples)
    generator = np.random.default_rng(seed)
    resampled = [statistic(_resample(values, generator)) for _ in range(num_resamples)]
    return _percentiles(resampled, confidence)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> FloatArray:
    """Share of runs that score above each threshold.

    Args:
        scores: Scores of any shape; runs of all tasks are pooled. All finite.
        thresholds: [num_thresholds], in the unit of the scores.

    Returns:
        [num_thresholds], in [0, 1]. A run with a score equal to the threshold is not above it.

    Raises:
        ValueError: If there are no scores, or one is not finite.

    Source:
        Agarwal et al. 2021, arXiv:2108.13264, section 4.2 (run-score distributions).

    Example:
        Three of the four scores are above 0, one is above 1.

        >>> performance_profile([[0, 1], [1, 2]], [0, 1])
        array([0.75, 0.25])
    """
    ordered = np.sort(_finite("scores", scores), axis=None)
    levels = _vector("thresholds", thresholds)
    return 1.0 - np.searchsorted(ordered, levels, side="right") / ordered.size


def probability_of_improvement(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Probability that a run beats a run of the baseline on a random task.

    For each task, all runs are paired with all runs of the baseline. The share of pairs in which
    the run scores higher is averaged over tasks; a tie counts one half. The value is 0.5 if the two
    methods do not differ. It measures how often a run is better, not by how much.

    Args:
        scores: [num_tasks, num_seeds], or [num_seeds] for one task. All finite.
        baseline: Scores of the same tasks; the number of seeds may differ.

    Returns:
        A probability.

    Raises:
        ValueError: If the numbers of tasks differ, or a score is not finite.

    Source:
        Agarwal et al. 2021, arXiv:2108.13264, section 4.3; the Mann-Whitney U statistic.

    Example:
        Of the four pairs, (2, 1), (4, 1) and (4, 2) are wins and (2, 2) is a tie: 3.5 / 4.

        >>> probability_of_improvement([2, 4], [1, 2])
        0.875
    """
    ours, theirs = _paired_tasks(scores, baseline)
    difference = ours[:, :, np.newaxis] - theirs[:, np.newaxis, :]  # [T, S, S']
    return float(np.mean((np.sign(difference) + 1) / 2))


def probability_of_improvement_interval(
    scores: ArrayLike,
    baseline: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Stratified bootstrap interval of ``probability_of_improvement``.

    Args:
        scores: As in ``probability_of_improvement``.
        baseline: As in ``probability_of_improvement``; resampled independently.
        confidence: As in ``bootstrap_interval``.
        num_resamples: As in ``bootstrap_interval``.
        seed: As in ``bootstrap_interval``.

    Returns:
        The interval, probabilities.

    Raises:
        ValueError: As in ``probability_of_improvement``, or if an option is out of range.

    Example:
        Every run beats every run of the baseline, in every resample.

        >>> probability_of_improvement_interval([5, 6], [1, 2], num_resamples=100)
        Interval(low=1.0, high=1.0)
    """
    ours, theirs = _paired_tasks(scores, baseline)
    _check_resampling(confidence, num_resamples)
    generator = np.random.default_rng(seed)
    resampled = [
        probability_of_improvement(_resample(ours, generator), _resample(theirs, generator))
        for _ in range(num_resamples)
    ]
    return _percentiles(resampled, confidence)


def _resample(scores: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Draws each row's entries with replacement from that row."""
    columns = generator.integers(scores.shape[1], size=scores.shape)
    return np.take_along_axis(scores, columns, axis=1)


def _percentiles(resampled: Sequence[float], confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def _finite(name: str, values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} must have at least one number; got shape {array.shape}.")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise ValueError(f"{name} must be finite; got {bad}. Remove runs without a score first.")
    return array


def _vector(name: str, values: ArrayLike) -> FloatArray:
    array = _finite(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis; got shape {array.shape}.")
    return array


def _matrix(name: str, values: ArrayLike) -> FloatArray:
    array = _finite(name, values)
    if array.ndim != 2:
        raise ValueError(f"{name} must be [num_tasks, num_seeds]; got shape {array.shape}.")
    return array


def _paired_tasks(scores: ArrayLike, baseline: ArrayLike) -> tuple[FloatArray, FloatArray]:
    ours = _matrix("scores", np.atleast_2d(np.asarray(scores, dtype=np.float64)))
    theirs = _matrix("baseline", np.atleast_2d(np.asarray(baseline, dtype=np.float64)))
    if len(ours) != len(theirs):
        raise ValueError(
            f"scores and baseline must cover the same tasks; got {len(ours)} and {len(theirs)}."
        )
    return ours, theirs


def _check_resampling(confidence: float, num_resamples: int) -> None:
    _check_confidence(confidence)
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be >= 1; got {num_resamples}.")


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1); got {confidence}.")
