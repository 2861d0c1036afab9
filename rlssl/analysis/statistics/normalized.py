"""Scores on a scale that is the same for every task."""

import numpy as np
from numpy.typing import ArrayLike

from rlssl.analysis.statistics.checks import FloatArray, finite

#: An episode of dm_control has 1,000 env steps, each with a reward in [0, 1].
_DMC_MAX = 1000.0


def human_normalized(scores: ArrayLike, *, random: float, human: float) -> FloatArray:
    """Scores on a scale from a random policy (0) to a human (1).

    ``(score - random) / (human - random)``.

    Args:
        scores: Returns of whole games, unclipped; any shape, finite.
        random: Score of a random policy.
        human: Score of a human.

    Returns:
        The shape of ``scores``, no unit. It may be negative, or above 1.

    Raises:
        ValueError: If a score is not finite, or both references are equal.

    Example:
        >>> human_normalized([10.0, 30.0], random=10.0, human=20.0)
        array([0., 2.])

    Source:
        Mnih et al. 2015, "Human-level control through deep reinforcement learning".
    """
    if human == random:
        raise ValueError(f"human and random must differ; got {human:g} twice.")
    return (finite("scores", scores) - random) / (human - random)


def dmc_normalized(scores: ArrayLike) -> FloatArray:
    """Returns of dm_control as shares of the greatest possible return: score / 1000.

    Args:
        scores: Returns of whole episodes of 1,000 env steps; any shape, in [0, 1000].

    Returns:
        The shape of ``scores``, in [0, 1].

    Raises:
        ValueError: If a score is not finite, or outside [0, 1000]: it is of another suite.

    Example:
        >>> dmc_normalized([250.0, 1000.0])
        array([0.25, 1.  ])
    """
    values = finite("scores", scores)
    outside = values[(values < 0.0) | (values > _DMC_MAX * (1.0 + 1e-6))]
    if outside.size:
        raise ValueError(
            f"scores must be returns of dm_control, in [0, 1000]; got {outside[0]:g}. Returns of "
            "other suites have another scale."
        )
    return np.asarray(values / _DMC_MAX)
