"""The clock of a run: what its stop, its checkpoints and its evaluations count.

A run that samples counts env steps. A run that trains from a data set alone makes none, and counts
updates: gradient steps. This is the only place that says which clock a run has.
"""

from collections.abc import Iterable, Mapping
from typing import Any

ENV_STEPS, UPDATES = "env_steps", "updates"

#: Clock -> how it is written for people.
WORDS = {ENV_STEPS: "env steps", UPDATES: "updates"}


def clock_of(keys: Mapping[str, Any]) -> str:
    """The clock of a result, or of the section ``stop`` of a spec.

    Results of off-policy algorithms have both counts; a run that samples counts env steps.

    Example:
        >>> clock_of({"env_steps": 3000, "updates": 200})
        'env_steps'
        >>> clock_of({"updates": 200}), clock_of({})
        ('updates', 'env_steps')
    """
    return UPDATES if UPDATES in keys and ENV_STEPS not in keys else ENV_STEPS


def steps_of(result: Mapping[str, Any], default: int | None = None) -> int:
    """How far a result's run is, on its own clock.

    Args:
        result: A result, or anything else that has one of the counts.
        default: For a result that has neither; None: this raises a KeyError.

    Example:
        >>> steps_of({"updates": 200}), steps_of({}, 0)
        (200, 0)
    """
    if default is not None and not has_steps(result):
        return default
    return int(result[clock_of(result)])


def has_steps(result: Mapping[str, Any]) -> bool:
    """Whether a result says how far its run is."""
    return ENV_STEPS in result or UPDATES in result


def unit_of(clocks: Iterable[str]) -> str:
    """What the steps of several runs count, for an axis or a header.

    Example:
        >>> unit_of(["updates", "updates"]), unit_of(["updates", "env_steps"])
        ('updates', 'env steps or updates')
    """
    found = set(clocks)
    return " or ".join(words for clock, words in WORDS.items() if clock in found) or "env steps"


def at_start_key(clock: str) -> str:
    """Key of a result: where its process started or resumed the trial."""
    return f"{clock}_at_start"


def start_of(result: Mapping[str, Any]) -> int:
    """Where the process of a result started or resumed the trial, on its own clock.

    Example:
        >>> start_of({"updates": 200, "updates_at_start": 100})
        100
    """
    return int(result.get(at_start_key(clock_of(result)), 0))


def default_period(end: float) -> int:
    """Steps between checkpoints, and between measures of held-out episodes, if none are given.

    Example:
        >>> default_period(1000), default_period(3)
        (100, 1)
    """
    return max(1, int(end) // 10)


def every_key(clock: str) -> str:
    """Key of a period in the spec.

    Example:
        >>> every_key(UPDATES)
        'every_updates'
    """
    return f"every_{clock}"
