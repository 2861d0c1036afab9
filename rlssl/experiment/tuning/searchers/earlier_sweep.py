"""Points and scores of an earlier sweep, with which a study begins."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlssl.analysis.confirmation import finished_points
from rlssl.analysis.results import Trial, read_run
from rlssl.errors import SpecError
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.experiment.spec.dimension import Dimension
from rlssl.experiment.spec.schema import HyperoptSpec, OptunaSpec, Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.spec.search_space import dimensions
from rlssl.experiment.tuning.searchers.points import Point


def earlier_points(spec: Spec) -> list[tuple[Point, float]]:
    """The finished points of the sweep that ``warm_start`` names, and their scores.

    A score is the mean of the objective of ``spec`` over the seeds, from the results of the trials.

    Raises:
        SpecError: If there is no such sweep, if it searched another space, or if none of its points
            has finished.
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
    finished = finished_points(trials, objective_of(spec))
    found = [(point, sum(scores) / len(scores)) for point, scores in finished]
    if not found:
        raise SpecError(
            f"{where} '{settings.warm_start}' has no point whose seeds have all finished with a "
            f"{objective_of(spec).metric}; leave it out."
        )
    return found


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
