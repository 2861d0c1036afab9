"""Points and scores of an earlier sweep, with which a study begins."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlssl.analysis.objective import Objective, ObjectiveMeter
from rlssl.analysis.results import Trial, read_run
from rlssl.errors import SpecError
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.experiment.spec.dimension import Dimension
from rlssl.experiment.spec.schema import HyperoptSpec, OptunaSpec, Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.spec.search_space import dimensions, point_key
from rlssl.experiment.tuning.searchers.points import Point


def earlier_points(spec: Spec) -> list[tuple[Point, float]]:
    """The finished points of the sweep that ``warm_start`` names, and their scores.

    A score is the mean of the objective of ``spec`` over the seeds, from the results of the trials.

    Raises:
        SpecError: If there is no such sweep, it searched another space, or has no finished point.
    """
    settings = spec.searcher.settings if spec.searcher is not None else None
    if not isinstance(settings, OptunaSpec | HyperoptSpec) or settings.warm_start is None:
        return []
    where = f"searcher.{'optuna' if isinstance(settings, OptunaSpec) else 'hyperopt'}.warm_start"
    folder = sweep_folder(locate(settings.warm_start, spec.storage))
    try:
        trials = read_run(folder).trials
    except ValueError as error:
        raise SpecError(f"{where} '{settings.warm_start}': {error}") from error
    _check_space(f"{where} '{settings.warm_start}'", dimensions(spec.search), trials)
    found = finished_points(trials, objective_of(spec))
    if not found:
        raise SpecError(
            f"{where} '{settings.warm_start}' has no point whose seeds have all finished with a "
            f"{objective_of(spec).metric}; leave it out."
        )
    return found


def finished_points(trials: Sequence[Trial], objective: Objective) -> list[tuple[Point, float]]:
    """The points whose seeds have all finished, each with its mean score.

    Args:
        trials: The trials of a run.
        objective: What is computed from their results.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(point_key(trial.point), []).append(trial)
    found = []
    for group in groups.values():
        scores = [trial_score(trial, objective) for trial in group if trial.status == "finished"]
        known = [score for score in scores if score is not None]
        if len(known) >= max(len(group[0].sweep_seeds), 1):
            found.append((group[0].point, sum(known) / len(known)))
    return found


def trial_score(trial: Trial, objective: Objective) -> float | None:
    """The objective of a trial, computed from all of its results; None if it has none."""
    meter = ObjectiveMeter(objective)
    for result in trial.results:
        meter.add(result)
    return meter.value if math.isfinite(meter.value) else None


def _check_space(where: str, space: Sequence[Dimension], trials: Sequence[Trial]) -> None:
    paths = {one.path for one in space}
    for trial in trials:
        if trial.point.keys() != paths:
            raise SpecError(
                f"{where} searched other paths: {_listed(trial.point)}; this spec searches "
                f"{_listed(paths)}. Leave it out."
            )
        for one in space:
            if one.parameters_of(trial.point[one.path]) is None:
                raise SpecError(
                    f"{where} searched another space: it has {one.path} = "
                    f"{trial.point[one.path]!r}, which search.{one.path} cannot give. Widen the "
                    "search, or leave the warm start out."
                )


def _listed(paths: Mapping[str, Any] | set[str]) -> str:
    return ", ".join(sorted(paths)) or "none"
