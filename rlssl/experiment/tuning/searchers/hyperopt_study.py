"""A study of HyperOpt (TPE), used directly: Ray's HyperOptSearch cannot repeat a point with seeds.

It also saves its state by pickles that may be older than the trials.
"""

import math
from typing import Any

import hyperopt
import numpy as np
from hyperopt import base, hp, tpe

from rlssl.experiment.spec.dimension import LISTS, Dimension
from rlssl.experiment.spec.schema import HyperoptSpec
from rlssl.experiment.tuning.searchers.points import Point
from rlssl.experiment.tuning.searchers.study_points import Study, StudyPoints


class HyperoptPoints(StudyPoints):
    """Points of a study of HyperOpt."""

    settings: HyperoptSpec

    def new_study(self) -> Study:
        """An empty study in memory."""
        return HyperoptStudy(self.settings, self.space, self.objective.sign)


class HyperoptStudy:
    """A study in memory whose labels are the searched paths.

    Args:
        settings: Options of the search.
        space: The search space.
        sign: 1 if higher scores are better, else -1. HyperOpt minimizes.
    """

    def __init__(self, settings: HyperoptSpec, space: list[Dimension], sign: float) -> None:
        self.settings, self.space, self.sign = settings, space, sign
        self.domain = base.Domain(_identity, {one.path: _expression(one) for one in space})
        self.trials = hyperopt.Trials()
        self._generator = np.random.RandomState(settings.seed)

    def ask(self) -> tuple[int, Point]:
        """Suggests a point."""
        (document,) = tpe.suggest(
            self.trials.new_trial_ids(1),
            self.domain,
            self.trials,
            self._generator.randint(2**31 - 1),
            n_startup_jobs=self.settings.n_startup_trials,
            verbose=False,
        )
        number = self._insert(document)
        drawn = document["misc"]["vals"]
        point = {
            one.path: one.draw(lambda space: _value(space, drawn[space.path][0]))
            for one in self.space
        }
        return number, point

    def add(self, point: Point) -> int:
        """Takes a point that was not asked for."""
        chosen = {
            space.path: value
            for one in self.space
            for space, value in (one.parameters_of(point[one.path]) or {}).items()
        }
        (number,) = self.trials.new_trial_ids(1)
        misc: dict[str, Any] = {
            "tid": number,
            "cmd": self.domain.cmd,
            "workdir": self.domain.workdir,
            # Spaces inside of values that were not chosen have no value.
            "idxs": {key: [number] if key in chosen else [] for key in self.domain.params},
            "vals": {key: [chosen[key]] if key in chosen else [] for key in self.domain.params},
        }
        result = self.domain.new_result()
        (document,) = self.trials.new_trial_docs([number], [None], [result], [misc])
        return self._insert(document)

    def tell(self, number: int, score: float | None) -> None:
        """Takes the score of a point."""
        (document,) = [one for one in self.trials.trials if one["tid"] == number]
        if score is None:
            document["state"] = base.JOB_STATE_ERROR
        else:
            document["state"] = base.JOB_STATE_DONE
            document["result"] = {"loss": -self.sign * score, "status": hyperopt.STATUS_OK}
        self.trials.refresh()

    def _insert(self, document: Any) -> int:
        self.trials.insert_trial_docs([document])
        self.trials.refresh()
        return int(document["tid"])


def _identity(point: Any) -> Any:
    return point


def _expression(space: Dimension) -> Any:
    """HyperOpt's expression for a space, with the path as its label."""
    if space.kind in LISTS:
        return hp.choice(space.path, [_inside(value) for value in space.arguments])
    if "randn" in space.kind:
        draw = hp.qnormal if space.kind.startswith("q") else hp.normal
        return draw(space.path, *space.arguments)
    low, high = space.bounds
    if space.kind == "randint":
        return hp.randint(space.path, low, high + 1)
    step = space.arguments[2:] or ((1,) if "int" in space.kind else ())
    if "log" in space.kind:
        draw = hp.qloguniform if step else hp.loguniform
        return draw(space.path, math.log(low), math.log(high), *step)
    draw = hp.quniform if step else hp.uniform
    return draw(space.path, low, high, *step)


def _inside(value: Any) -> Any:
    if isinstance(value, Dimension):
        return _expression(value)
    if isinstance(value, dict):
        return {key: _inside(below) for key, below in value.items()}
    return value


def _value(space: Dimension, drawn: Any) -> Any:
    """A plain number in the bounds, to which HyperOpt's rounding may not keep."""
    if space.kind in LISTS:
        return int(drawn)
    if "randn" not in space.kind:
        low, high = space.bounds
        drawn = min(max(drawn, low), high)
    return round(float(drawn)) if "randint" in space.kind else float(drawn)
