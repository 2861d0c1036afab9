"""One number for the scores of several tasks and seeds."""

import numpy as np
from numpy.typing import ArrayLike

from rlssl.analysis.statistics.checks import FloatArray, finite, matrix, vector


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
    ordered = np.sort(finite("scores", scores), axis=None)
    trimmed = ordered.size // 4
    return float(ordered[trimmed : ordered.size - trimmed].mean())


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
    ordered = np.sort(finite("scores", scores), axis=None)
    levels = vector("thresholds", thresholds)
    return 1.0 - np.searchsorted(ordered, levels, side="right") / ordered.size


def mean_of_tasks(scores: ArrayLike) -> float:
    """Mean over tasks of the mean over seeds. A few tasks with huge scores decide it.

    Args:
        scores: [num_tasks, num_seeds], finite, normalized.

    Raises:
        ValueError: If ``scores`` has another shape, or one is not finite.

    Example:
        >>> mean_of_tasks([[0, 2], [3, 7]])  # (1 + 5) / 2
        3.0
    """
    return float(matrix("scores", scores).mean())


def median_of_tasks(scores: ArrayLike) -> float:
    """Median over tasks of the mean over seeds. Half of the tasks may be 0 without changing it.

    Args:
        scores: As in `mean_of_tasks`.

    Raises:
        ValueError: As in `mean_of_tasks`.

    Example:
        >>> median_of_tasks([[0, 2], [3, 7], [100, 100]])  # of 1, 5 and 100
        5.0
    """
    return float(np.median(matrix("scores", scores).mean(axis=1)))


def optimality_gap(scores: ArrayLike, *, target: float = 1.0) -> float:
    """By how much runs fall short of a target score, on average; lower is better.

    The mean of ``max(target - score, 0)`` over all runs. Scores above the target do not make up for
    others below it.

    Args:
        scores: Scores of any shape, pooled, finite, normalized.
        target: The score that is good enough; 1 is a human's, or dm_control's greatest.

    Raises:
        ValueError: If there are no scores, or one is not finite.

    Example:
        >>> optimality_gap([[0.5, 3.0], [1.0, 0.0]])  # (0.5 + 0 + 0 + 1) / 4
        0.375

    Source:
        Agarwal et al. 2021, arXiv:2108.13264, section 4.3.
    """
    return float(np.maximum(target - finite("scores", scores), 0.0).mean())


def area_under_curve(env_steps: ArrayLike, returns: ArrayLike, *, until: float) -> float:
    """Mean height of a learning curve from its first point to a budget of env steps.

    Trapezoids between the points, divided by the env steps that they cover: the unit is that of a
    return, and a method that learns earlier has more. Two areas can be compared if their curves
    cover the same env steps.

    Args:
        env_steps: [num_points], strictly increasing.
        returns: [num_points], finite.
        until: The budget; above the first env step, at most the last one.

    Raises:
        ValueError: If the lengths differ, env steps do not increase, or the curve does not reach
            the budget.

    Example:
        Up to 15, the curve is 0, 2 and 3 high: (10 * 1 + 5 * 2.5) / 15.

        >>> area_under_curve([0, 10, 20], [0, 2, 4], until=15)
        1.5
    """
    steps, heights = vector("env_steps", env_steps), vector("returns", returns)
    if len(steps) != len(heights):
        raise ValueError(
            f"env_steps and returns must have one length; got {len(steps)} and {len(heights)}."
        )
    if (np.diff(steps) <= 0).any():
        raise ValueError("env_steps must be strictly increasing; sort the points first.")
    if not steps[0] < until <= steps[-1]:
        raise ValueError(
            f"until must be in ({steps[0]:g}, {steps[-1]:g}], the env steps of the curve; "
            f"got {until:g}."
        )
    inside = steps < until
    steps_in = np.append(steps[inside], until)
    heights_in = np.append(heights[inside], np.interp(until, steps, heights))
    return float(np.trapezoid(heights_in, steps_in) / (until - steps[0]))
