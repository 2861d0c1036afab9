"""Several comparisons at once: the confidence that each one needs so that all hold together."""

import math

from rlssl.analysis.statistics.checks import check_confidence


def confidence_of_each_pair(num_sides: int, *, confidence: float = 0.95) -> float:
    """Confidence of the interval of one pair, so that the intervals of all pairs hold together.

    Bonferroni's correction for the ``k (k - 1) / 2`` pairs of k sides:
    ``1 - (1 - confidence) / (k (k - 1) / 2)``. If no side differs from another one, the probability
    that any interval excludes 0 is at most ``1 - confidence``.

    All pairs count, also where only the ``k - 1`` differences to the best side are shown: the best
    side was chosen by its score, so any pair could have been shown. A correction for ``k - 1``
    comparisons holds only with a baseline that was fixed before. Holm's procedure finds a few
    differences more, but it gives no intervals, and needs the p-values of all pairs: 124,750 in a
    search of 500 points.

    Args:
        num_sides: Number of sides, at least two.
        confidence: Of all pairs together; in (0, 1).

    Returns:
        A confidence; with two sides the given one.

    Raises:
        ValueError: If there are fewer than two sides, or ``confidence`` is outside (0, 1).

    Example:
        Three sides have three pairs: 1 - 0.06 / 3 = 0.98.

        >>> round(confidence_of_each_pair(3, confidence=0.94), 6)
        0.98

    Source:
        Dunn 1961, "Multiple comparisons among means"; for comparisons of learning algorithms Demsar
        2006, "Statistical comparisons of classifiers over multiple data sets", section 3.2.2.
    """
    check_confidence(confidence)
    if num_sides < 2:
        raise ValueError(f"num_sides must be >= 2; got {num_sides}. One side has no pair.")
    return 1.0 - (1.0 - confidence) / math.comb(num_sides, 2)
