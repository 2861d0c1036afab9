"""Confidence intervals of means and shares over few seeds."""

import numpy as np
from numpy.typing import ArrayLike

from rlssl.analysis.statistics.checks import (
    FloatArray,
    Interval,
    check_confidence,
    finite,
    vector,
)

#: Fewest seeds with an interval in tables and curves. The t interval of two seeds reaches 9 times
#: their standard deviation to either side, so it says nothing but "two seeds".
MIN_SEEDS = 3


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
    values = vector("scores", scores)
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

    values = finite("scores", scores)
    check_confidence(confidence)
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
    low, high = wilson_bounds(vector("scores", scores), confidence=confidence)
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

    values = finite("scores", scores)
    check_confidence(confidence)
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


def welch_interval(scores: ArrayLike, others: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Welch's t interval of the difference of two means; the standard deviations may differ.

    ``mean(scores) - mean(others) +- t * sqrt(v + w)``, with v and w the squared standard errors of
    the two means, and t for ``(v + w)^2 / (v^2 / (n - 1) + w^2 / (m - 1))`` degrees of freedom.

    Args:
        scores: [num_seeds], at least two, finite.
        others: As ``scores``; the number of seeds may differ.
        confidence: As in ``mean_interval``.

    Returns:
        The interval around the difference; above 0 if ``scores`` are higher.

    Raises:
        ValueError: If a side has fewer than two scores, one is not finite, neither side has a
            spread, or ``confidence`` is outside (0, 1).

    Example:
        Means 4 and 1; v = w = 1, so 4 / 2 = 2 degrees of freedom, t(0.75, 2) = 0.8165.

        >>> low, high = welch_interval([3, 5], [0, 2], confidence=0.5)
        >>> round(low, 4), round(high, 4)  # 3 +- 0.8165 * sqrt(2)
        (1.8453, 4.1547)

    Source:
        Welch 1947, "The generalization of Student's problem when several different population
        variances are involved".
    """
    from scipy.special import stdtrit  # imported here, because scipy is slow to import

    ours, theirs = vector("scores", scores), vector("others", others)
    check_confidence(confidence)
    if min(len(ours), len(theirs)) < 2:
        raise ValueError(
            f"both sides must have at least 2 seeds; got {len(ours)} and {len(theirs)}."
        )
    errors = [side.var(ddof=1) / len(side) for side in (ours, theirs)]
    if not sum(errors) > 0.0:
        raise ValueError(
            "at least one side must have seeds with different scores; without any spread, the "
            "interval would have no width."
        )
    weights = [error / sum(errors) for error in errors]  # of huge scores, squares would overflow
    freedom = 1.0 / sum(
        weight**2 / (len(side) - 1) for weight, side in zip(weights, (ours, theirs), strict=True)
    )
    half = float(stdtrit(freedom, 0.5 + confidence / 2) * np.sqrt(sum(errors)))
    middle = float(ours.mean() - theirs.mean())
    return Interval(middle - half, middle + half)


def share_difference_interval(
    scores: ArrayLike, others: ArrayLike, *, confidence: float = 0.95
) -> Interval:
    """Newcombe's interval of the difference of two shares, from Wilson's intervals of both.

    With shares p and q, and Wilson's bounds (l, u) of p and (k, v) of q:
    ``p - q - sqrt((p - l)^2 + (v - q)^2)`` to ``p - q + sqrt((u - p)^2 + (q - k)^2)``. It has a
    width also if all seeds of both sides agree, where Welch's has none.

    Args:
        scores: [num_seeds], at least one, in [0, 1]: solved or not, or success rates.
        others: As ``scores``; the number of seeds may differ.
        confidence: As in ``mean_interval``.

    Returns:
        The interval around the difference, in [-1, 1].

    Raises:
        ValueError: As in ``wilson_interval``.

    Example:
        Three seeds that all solve the task, and three that all fail; Wilson gives [0.439, 1] and
        [0, 0.561].

        >>> low, high = share_difference_interval([1, 1, 1], [0, 0, 0])
        >>> round(low, 3), round(high, 3)  # 1 - sqrt(0.561^2 + 0.561^2), 1
        (0.206, 1.0)

    Source:
        Newcombe 1998, "Interval estimation for the difference between independent proportions",
        method 10.
    """
    ours, theirs = vector("scores", scores), vector("others", others)
    low, high = wilson_interval(ours, confidence=confidence)
    other_low, other_high = wilson_interval(theirs, confidence=confidence)
    share, other = float(ours.mean()), float(theirs.mean())
    below = float(np.hypot(share - low, other_high - other))
    above = float(np.hypot(high - share, other - other_low))
    return Interval(share - other - below, share - other + above)
