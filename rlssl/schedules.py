"""Values that change with env steps: learning rates, entropy and loss coefficients."""

import math
from collections.abc import Sequence

import numpy as np

#: A number, or [[env_steps, value], ...] with piecewise linear interpolation between the points.
Schedule = float | Sequence[Sequence[float]]


def value_at(schedule: Schedule, env_steps: float) -> float:
    """The value of ``schedule`` at ``env_steps``.

    Before the first point and after the last one the value is constant.

    Args:
        schedule: A number, or points [[env_steps, value], ...], as ``check_schedule`` accepts.
        env_steps: Environment frames since the start of the run (agent steps x action repeat).
    """
    if isinstance(schedule, int | float):
        return float(schedule)
    steps, values = zip(*schedule, strict=True)
    return float(np.interp(env_steps, steps, values))


def check_schedule(schedule: Schedule, key: str, *, minimum: float = 0.0) -> None:
    """Raises where ``schedule`` is no schedule.

    Raises:
        ValueError: Naming ``key``, the value and the fix, if a value is not finite or below
            ``minimum``, or if the points are not in ascending order of env steps.
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
