"""The rows of a trial's ``result.json``, also of a trial that a restart set back."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlssl.clocks import clock_of, has_steps, start_of, steps_of

#: What the keys of counts of faults begin with, in a flat result.
FAULTS = "faults/"


def parse_result(line: str) -> dict[str, Any]:
    """Reads one line of ``result.json``.

    Raises:
        json.JSONDecodeError: If the line is not JSON.
        ValueError: If the line is not a result.

    Example:
        >>> parse_result('{"env_steps": 9}')
        {'env_steps': 9}
        >>> parse_result("12")
        Traceback (most recent call last):
        ValueError: is not a result: it has no env_steps
    """
    row = json.loads(line)
    steps = row.get(clock_of(row), 0) if isinstance(row, dict) else None
    if isinstance(steps, int | float) and math.isfinite(steps):
        return dict(row)
    raise ValueError("is not a result: it has no env_steps")


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a nested mapping; their keys are joined by "/".

    Example:
        >>> dict(flatten({"env_steps": 9, "aux": {"icm": {"forward": 0.5}}}))
        {'env_steps': 9, 'aux/icm/forward': 0.5}
    """
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


class ResultRows:
    """The results of a trial in the order of its clock, added in the order of the file.

    A run that resumes from a checkpoint reports the steps after the checkpoint again. So each row
    replaces all earlier rows with equal or more steps: env steps, or updates if the run makes none.

    Attributes:
        rows: The results; nested keys are joined by "/".
        undone_faults: Faults that the results no longer count, because the trial continued from an
            earlier checkpoint after them.

    Example:
        >>> kept = ResultRows()
        >>> for env_steps in (100, 200, 300, 200):
        ...     kept.add({"env_steps": env_steps})
        >>> [row["env_steps"] for row in kept.rows]
        [100, 200]
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.undone_faults: Counter[str] = Counter()

    def add(self, row: dict[str, Any]) -> None:
        """Adds the next flat result; a result from before the first sample is left out."""
        if not has_steps(row):
            return
        if self.rows and _is_after_restart(row, self.rows[-1]):
            self.undone_faults.update(_faults_after(self.rows, start_of(row)))
        while self.rows and steps_of(self.rows[-1]) >= steps_of(row):
            self.rows.pop()
        self.rows.append(row)


def _is_after_restart(row: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether another process reported a row: in one process, steps and counts never fall."""
    falling = (clock_of(before), *(key for key in before if key.startswith(FAULTS)))
    has_fallen = any(row.get(key, 0) < before[key] for key in falling)
    return has_fallen or start_of(row) != start_of(before)


def _faults_after(rows: Sequence[Mapping[str, Any]], steps: float) -> dict[str, int]:
    """The faults that the results count after ``steps``."""
    kept: Mapping[str, Any] = next((row for row in reversed(rows) if steps_of(row) <= steps), {})
    return {
        key.removeprefix(FAULTS): int(count - kept.get(key, 0))
        for key, count in rows[-1].items()
        if key.startswith(FAULTS) and count > kept.get(key, 0)
    }
