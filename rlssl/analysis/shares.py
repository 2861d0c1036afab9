"""Which scores are shares, such as success rates: their intervals are Wilson's, not Student's t."""

from collections.abc import Iterable

import numpy as np

from rlssl.analysis.objective import Objective
from rlssl.analysis.results import Trial


def returns_are_shares(trials: Iterable[Trial]) -> bool:
    """Whether mean returns are shares of solved episodes: every return is 0 or 1, and one is 1.

    Example:
        >>> from pathlib import Path
        >>> from rlssl.analysis.results import Episodes
        >>> returns = np.array([0.0, 1.0])
        >>> episodes = Episodes(returns, returns, returns, returns)
        >>> returns_are_shares([Trial(Path("a"), {}, {}, 0, "", [], episodes)])
        True
    """
    returns = [trial.episodes.returns for trial in trials]
    solved = any((of_trial == 1.0).any() for of_trial in returns)
    return solved and all(np.isin(of_trial, (0.0, 1.0)).all() for of_trial in returns)


def returns_are_bounded(trials: Iterable[Trial]) -> bool:
    """Whether returns stay in [0, 1], as MiniGrid's: all do, and the environment has a success.

    Example:
        >>> from pathlib import Path
        >>> from rlssl.analysis.results import Episodes
        >>> returns = np.array([0.0, 0.9])
        >>> episodes = Episodes(returns, returns, returns, np.array([0.0, 1.0]))
        >>> returns_are_bounded([Trial(Path("a"), {}, {}, 0, "", [], episodes)])
        True
    """
    episodes = [trial.episodes for trial in trials]
    solved = any((of_trial.successes == 1.0).any() for of_trial in episodes)
    return solved and all(
        ((of_trial.returns >= 0.0) & (of_trial.returns <= 1.0)).all() for of_trial in episodes
    )


def scores_are_shares(
    scores: Iterable[float], trials: Iterable[Trial], objective: Objective | None
) -> bool:
    """Whether scores of seeds are shares in [0, 1], such as success rates.

    Args:
        scores: The scores.
        trials: The trials that they are of.
        objective: What the scores are; None: the final return.

    Example:
        >>> scores_are_shares([0.5, 1.0], [], Objective("evaluation/success_rate"))
        True
        >>> scores_are_shares([0.5, 1.0], [], Objective("aux/icm/loss"))
        False
    """
    if objective is None:
        is_rate = returns_are_shares(trials)
    else:
        is_rate = objective.metric.endswith("success_rate")
    # The success values of an environment may lie outside [0, 1].
    return is_rate and all(0.0 <= score <= 1.0 for score in scores)
