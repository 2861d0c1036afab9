"""Probability that a run of one method beats a run of another."""

import numpy as np
from numpy.typing import ArrayLike

from rlssl.analysis.statistics.bootstrap import percentiles, resample
from rlssl.analysis.statistics.checks import (
    FloatArray,
    Interval,
    check_confidence,
    check_resampling,
    matrix,
    vector,
)

_EDGE = 1e-9


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
    """Stratified bootstrap interval of ``probability_of_improvement``, for several tasks.

    On one task with few seeds, ``rank_interval`` is the better one.

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
    check_resampling(confidence, num_resamples)
    generator = np.random.default_rng(seed)
    resampled = [
        probability_of_improvement(resample(ours, generator), resample(theirs, generator))
        for _ in range(num_resamples)
    ]
    return percentiles(resampled, confidence)


def _paired_tasks(scores: ArrayLike, baseline: ArrayLike) -> tuple[FloatArray, FloatArray]:
    ours = matrix("scores", np.atleast_2d(np.asarray(scores, dtype=np.float64)))
    theirs = matrix("baseline", np.atleast_2d(np.asarray(baseline, dtype=np.float64)))
    if len(ours) != len(theirs):
        raise ValueError(
            f"scores and baseline must cover the same tasks; got {len(ours)} and {len(theirs)}."
        )
    return ours, theirs


def rank_interval(scores: ArrayLike, baseline: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Newcombe's interval of ``probability_of_improvement`` on one task, for few seeds.

    It has a width also if every run beats every run of the baseline. The bootstrap has none then,
    although three seeds against three come out like that in one of twenty experiments without any
    difference. In simulations with normal scores, 95 % intervals held the truth in 90 % to 97 % of
    experiments of three seeds against three, and in 94 % to 96 % with five.

    The ends are the probabilities p with ``|p - estimate| = z * sqrt(V(p))`` and
    ``V(p) = p (1 - p) / (n m) * (1 + ((n + m) / 2 - 1) ((1 - p) / (2 - p) + p / (1 + p)))``.

    Args:
        scores: [num_seeds], finite.
        baseline: [num_seeds], finite; the number of seeds may differ.
        confidence: As in ``mean_interval``.

    Returns:
        The interval, probabilities.

    Raises:
        ValueError: If a side has no scores, one is not finite, or ``confidence`` is outside (0, 1).

    Example:
        Every run of three beats every run of three:

        >>> low, high = rank_interval([4, 5, 6], [1, 2, 3])
        >>> round(low, 2), high
        (0.5, 1.0)

    Source:
        Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic. Part 2", method 5.
    """
    from scipy.optimize import brentq  # imported here, because scipy is slow to import
    from scipy.special import ndtri

    ours, theirs = vector("scores", scores), vector("baseline", baseline)
    check_confidence(confidence)
    estimate = probability_of_improvement(ours, theirs)
    pairs, mean_size = len(ours) * len(theirs), (len(ours) + len(theirs)) / 2
    z_squared = float(ndtri(0.5 + confidence / 2)) ** 2

    def excess(p: float) -> float:
        ranks = (1.0 - p) / (2.0 - p) + p / (1.0 + p)
        variance = p * (1.0 - p) / pairs * (1.0 + (mean_size - 1.0) * ranks)
        return (p - estimate) ** 2 - z_squared * variance

    # 0 and 1 are roots, too, if the estimate is one of them; the other root is wanted.
    inside = min(max(estimate, _EDGE), 1.0 - _EDGE)
    low = brentq(excess, 0.0, inside) if estimate > 0.0 else 0.0
    high = brentq(excess, inside, 1.0) if estimate < 1.0 else 1.0
    return Interval(float(low), float(high))
