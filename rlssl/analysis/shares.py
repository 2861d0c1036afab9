"""Which scores are shares or stay in [0, 1], and what follows for their intervals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rlssl.analysis.objective import Objective
from rlssl.analysis.results import Trial
from rlssl.analysis.statistics import Difference, difference

#: Share of repeated experiments whose interval would contain the true mean.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ScoreRange:
    """Where the values lie of which scores are means; see `range_of`.

    Args:
        are_0_or_1: Whether every value is 0 or 1.
        are_within: Whether every value is in [0, 1].
        has_1: Whether one is 1.
        has_success: Whether an episode had a success.

    Example:
        >>> never = ScoreRange(are_0_or_1=True, are_within=True, has_1=False, has_success=False)
        >>> once = ScoreRange(are_0_or_1=True, are_within=True, has_1=True, has_success=False)
        >>> never.are_shares, never.joined(once).are_shares
        (False, True)
    """

    are_0_or_1: bool
    are_within: bool
    has_1: bool
    has_success: bool

    @property
    def are_shares(self) -> bool:
        """Whether scores are shares of solved episodes: every value is 0 or 1, and one is 1."""
        return self.are_0_or_1 and self.has_1

    @property
    def are_bounded(self) -> bool:
        """Whether scores stay in [0, 1], as MiniGrid's: all do, and there was a success."""
        return self.are_within and self.has_success

    def has_shares(self, scores: Iterable[float]) -> bool:
        """Whether these scores are shares; successes of an environment may lie outside [0, 1]."""
        return self.are_shares and all(0.0 <= score <= 1.0 for score in scores)

    def joined(self, other: "ScoreRange") -> "ScoreRange":
        """The range of the values of both."""
        return ScoreRange(
            are_0_or_1=self.are_0_or_1 and other.are_0_or_1,
            are_within=self.are_within and other.are_within,
            has_1=self.has_1 or other.has_1,
            has_success=self.has_success or other.has_success,
        )


#: Of scores about which nothing is known.
ANY_RANGE = ScoreRange(are_0_or_1=False, are_within=False, has_1=False, has_success=False)
_SHARES = ScoreRange(are_0_or_1=True, are_within=True, has_1=True, has_success=True)


def range_of(trials: Iterable[Trial], objective: Objective | None = None) -> ScoreRange:
    """The range of the scores of trials.

    Args:
        trials: All trials of a run, so that all points of the run are judged alike.
        objective: What the scores are; None: the final return.

    Example:
        >>> range_of([], Objective("evaluation/success_rate")).are_shares
        True
        >>> range_of([], Objective("aux/icm/loss")).are_shares
        False
    """
    if objective is not None:
        return _SHARES if objective.metric.endswith("success_rate") else ANY_RANGE
    episodes = [trial.episodes for trial in trials]
    returns = [of_trial.returns for of_trial in episodes]
    return ScoreRange(
        are_0_or_1=all(np.isin(one, (0.0, 1.0)).all() for one in returns),
        are_within=all(((one >= 0.0) & (one <= 1.0)).all() for one in returns),
        has_1=any((one == 1.0).any() for one in returns),
        has_success=any((of_trial.successes == 1.0).any() for of_trial in episodes),
    )


def difference_of_scores(
    scores: Sequence[float],
    others: Sequence[float],
    known: ScoreRange,
    names: tuple[str, str],
    *,
    confidence: float = CONFIDENCE,
) -> Difference:
    """The difference of the means of two sides, as reports and `rlssl compare` give it.

    Args:
        scores: The score of each seed of one side; may be empty.
        others: Those of the other side.
        known: The range of both; the difference of scores that cannot leave [0, 1] cannot leave
            [-1, 1].
        names: Names of the sides, for cautions.
        confidence: Of the interval.

    Example:
        >>> known = ScoreRange(False, True, False, True)
        >>> difference_of_scores([0.0, 0.0, 0.95], [0.0, 0.9, 0.0], known, ("A", "B")).interval
        Interval(low=-1.0, high=1.0)
    """
    return difference(
        scores,
        others,
        names=names,
        are_shares=known.has_shares([*scores, *others]),
        are_bounded=known.are_bounded,
        confidence=confidence,
    )
