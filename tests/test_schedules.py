"""Schedules over env steps."""

from typing import Any

import pytest

from rlssl.schedules import check_schedule, value_at


def test_points_are_interpolated_and_constant_beyond_the_ends() -> None:
    schedule = [[100, 1.0], [300, 0.5]]
    # Halfway between 100 and 300: 0.75.
    assert [value_at(schedule, t) for t in (0, 100, 200, 300, 999)] == [1.0, 1.0, 0.75, 0.5, 0.5]
    assert value_at(0.3, 12345) == 0.3


@pytest.mark.parametrize(
    "schedule, message",
    [
        ("fast", "lr must be a number or [[env_steps, value], ...]; got 'fast'."),
        (True, "lr must be a number"),
        ([], "lr must be [[env_steps, value], ...]; got []."),
        ([[0, 1.0, 2.0]], "lr must be [[env_steps, value], ...]"),
        ([[100, 1.0], [0, 0.5]], "lr needs env_steps >= 0 in ascending order; got [100, 0]."),
        (-1.0, "lr must be finite and >= 0; got -1.0."),
        (float("nan"), "lr must be finite and >= 0; got nan."),
    ],
)
def test_bad_schedules_name_key_and_value(schedule: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        check_schedule(schedule, "lr")
    assert message in str(error.value)
