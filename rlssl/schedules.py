"""Schedules: values that change with env steps, such as learning rates and coefficients."""

import math
from collections.abc import Sequence

import numpy as np

#: A number, or [[env_steps, value], ...] with piecewise linear interpolation between the points.
Schedule = float | Sequence[Sequence[float]]


def value_at(schedule: Schedule, env_steps: float) -> float:
    """Returns the value of a schedule.

    The value is constant before the first point and after the last point.

    Args:
        schedule: A number, or points [[env_steps, value], ...]; see ``check_schedule``.
        env_steps: Environment frames since the start of the run (agent steps x action repeat).

    Example:
        >>> schedule = [[0, 1.0], [100, 0.5]]
        >>> value_at(schedule, 50), value_at(schedule, 1000), value_at(0.25, 50)
        (0.75, 0.5, 0.25)
    """
    if isinstance(schedule, int | float):
        return float(schedule)
    steps, values = zip(*schedule, strict=True)
    return float(np.interp(env_steps, steps, values))


def check_schedule(schedule: Schedule, key: str, *, minimum: float = 0.0) -> None:
    """Checks that ``schedule`` is a valid schedule.

    Args:
        schedule: The value to check.
        key: The key of the schedule in a spec, for the message.
        minimum: Smallest value that the schedule may have.

    Raises:
        ValueError: If a value is not finite or below ``minimum``, or if the env steps of the points
            do not ascend. The message names the key, the value and the fix.

    Example:
        >>> check_schedule([[0, 1e-3], [100_000, 1e-4]], "training.lr")
        >>> check_schedule(-1.0, "training.lr")
        Traceback (most recent call last):
        ValueError: training.lr must be finite and >= 0; got -1.0.
    """
    if isinstance(schedule, bool | str) or not isinstance(schedule, int | float | Sequence):
        raise ValueError(f"{key} must be a number or [[env_steps, value], ...]; got {schedule!r}.")
    if isinstance(schedule, Sequence):
        _check_points(schedule, key)
        values = [point[1] for point in schedule]
    else:
        values = [schedule]
    for value in values:
        if not math.isfinite(value) or value < minimum:
            raise ValueError(f"{key} must be finite and >= {minimum:g}; got {value}.")


def _check_points(points: Sequence[Sequence[float]], key: str) -> None:
    well_formed = len(points) > 0 and all(
        isinstance(point, Sequence) and not isinstance(point, str) and len(point) == 2
        for point in points
    )
    if not well_formed:
        raise ValueError(f"{key} must be [[env_steps, value], ...]; got {points!r}.")
    steps = [point[0] for point in points]
    if steps != sorted(set(steps)) or steps[0] < 0:
        raise ValueError(f"{key} needs env_steps >= 0 in ascending order; got {steps}.")
