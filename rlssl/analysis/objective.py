"""The objective of a search: one number that says how good a trial is, from its results."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from rlssl.clocks import clock_of, steps_of

#: Key of a result: the objective so far; NaN before the first value. A result has it if the spec
#: has the section of the same name.
OBJECTIVE = "objective"

#: The metric that is the mean height of the curve of ``AREA_OF`` over env steps.
AREA, AREA_OF = "area", "episode_return_mean"

#: Groups of a result that are measured at evaluations. Later results repeat them. In each, the key
#: of the run's clock says when they were measured.
_MEASURED = ("evaluation", "holdout")


@dataclass(frozen=True)
class Objective:
    """What a search maximizes or minimizes.

    Args:
        metric: Key of the flat result, or ``area``.
        mode: "max" or "min".
        last: The mean of this many last values is taken; not for ``area``.

    Example:
        >>> Objective.of({"objective": {"metric": "success_rate", "last": 5}}).words
        'success_rate (mean of the last 5)'
        >>> Objective.of({}).words
        'episode_return_mean'
    """

    metric: str = "episode_return_mean"
    mode: str = "max"
    last: int = 1

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Objective":
        """The objective of a spec as plain data; the default one if the spec has none."""
        return cls(**(spec.get(OBJECTIVE) or {}))

    @property
    def words(self) -> str:
        """The objective for the header of a table."""
        low = ", lower is better" if self.mode == "min" else ""
        mean = f" (mean of the last {self.last})" if self.last > 1 else ""
        return f"{self.metric}{mean}{low}"

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1."""
        return 1.0 if self.mode == "max" else -1.0

    def score(self, result: Mapping[str, Any]) -> float | None:
        """The objective in a trial's last result; None if the trial has no score.

        Example:
            >>> Objective().score({"episode_return_mean": 2.0, "env_steps": 10})
            2.0
        """
        return _finite(result, OBJECTIVE if OBJECTIVE in result else self.metric)


class ObjectiveMeter:
    """Follows the objective of one trial, result by result.

    A result without the metric changes nothing. An evaluation counts once, although later results
    repeat it. The area is the integral of the return over env steps (trapezoids between results),
    divided by the env steps that it covers: it has the unit of a return.

    Args:
        objective: What to follow.
        state: From the attribute ``state`` of another meter, which this one continues.

    Example:
        >>> meter = ObjectiveMeter(Objective("area"))
        >>> meter.add({"env_steps": 0, "episode_return_mean": 0.0})
        0.0
        >>> meter.add({"env_steps": 10, "episode_return_mean": 4.0})
        2.0
        >>> meter.add({"env_steps": 20, "episode_return_mean": 4.0})  # (10 * 2 + 10 * 4) / 20
        3.0
    """

    def __init__(self, objective: Objective, state: Mapping[str, Any] | None = None) -> None:
        self.objective = objective
        known = state or {}
        self._values = deque(known.get("values", ()), maxlen=objective.last)
        # The evaluation that was counted last.
        self._evaluation = known.get("evaluation")
        # Env steps and return of the last point of the curve; its beginning; its integral.
        self._curve: list[float] | None = known.get("curve")

    @property
    def state(self) -> dict[str, Any]:
        """What another meter needs to continue, as JSON."""
        return {
            "values": list(self._values),
            "evaluation": self._evaluation,
            "curve": self._curve,
        }

    @property
    def value(self) -> float:
        """The objective so far; NaN before the first value."""
        if self.objective.metric == AREA:
            return self._mean_height()
        return sum(self._values) / len(self._values) if self._values else math.nan

    def add(self, result: Mapping[str, Any]) -> float:
        """Takes the next result, nested or flat; returns the objective so far."""
        metric = self.objective.metric
        found = _finite(result, AREA_OF if metric == AREA else metric)
        if found is None:
            return self.value
        if metric == AREA:
            self._extend_curve(float(steps_of(result)), found)
        elif metric.partition("/")[0] not in _MEASURED or self._is_new(result, found):
            self._values.append(found)
        return self.value

    def _is_new(self, result: Mapping[str, Any], found: float) -> bool:
        # Results of earlier versions do not say when the evaluation was made.
        group = self.objective.metric.partition("/")[0]
        made_at = _finite(result, f"{group}/{clock_of(result)}")
        before, self._evaluation = self._evaluation, found if made_at is None else made_at
        return self._evaluation != before

    def _extend_curve(self, env_steps: float, height: float) -> None:
        if self._curve is None:
            self._curve = [env_steps, height, env_steps, 0.0]
            return
        last_step, last_height, first_step, integral = self._curve
        integral += (env_steps - last_step) * (last_height + height) / 2
        self._curve = [env_steps, height, first_step, integral]

    def _mean_height(self) -> float:
        if self._curve is None:
            return math.nan
        last_step, height, first_step, integral = self._curve
        return integral / (last_step - first_step) if last_step > first_step else height


def _finite(result: Mapping[str, Any], key: str) -> float | None:
    """A number of a result, nested or flat; None if it is not there, or not finite."""
    found: Any = result
    if key in result:
        found = result[key]
    else:
        for part in key.split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
    # Numbers of numpy, too: some results have them.
    return float(found) if isinstance(found, Real) and math.isfinite(found) else None
