"""Checks of a sweep as a whole: its objective, searcher, scheduler and tracking."""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlssl.analysis.objective import AREA, Objective
from rlssl.analysis.points import point_key
from rlssl.clocks import every_key
from rlssl.diagnostics.settings import OPTIONS, parse_diagnostics
from rlssl.errors import MissingExtraError, SpecError, suggest
from rlssl.experiment.spec.dimension import LISTS, Dimension
from rlssl.experiment.spec.schema import dump
from rlssl.experiment.spec.search_space import adapts, dimensions, has_random, num_points
from rlssl.experiment.spec.sections.data import check_has_episodes
from rlssl.experiment.spec.trackers import trackers_of

if TYPE_CHECKING:
    from rlssl.algorithms.common.settings import TrainingSettings
    from rlssl.experiment.spec.schema import AshaSpec, SearcherSpec, Spec

#: Metrics of every trial, by which points can be compared.
OBJECTIVE_METRICS = (
    AREA,
    "episode_return_mean",
    "success_rate",
    "intrinsic_return_mean",
    "env_steps",
    "agent_steps",
    "updates",
    "time_total_s",
)
#: Metrics of evaluations, after "evaluation/".
EVALUATION_METRICS = ("episode_return_mean", "episode_len_mean", "success_rate")
#: Other results, which depend on the algorithm, the losses and the environment, are below these.
RESULT_GROUPS = ("diagnostics", "env_runners", "evaluation", "faults", "holdout", "learners")

#: Section -> number of keys below it, of the paths that population-based training can change.
_POPULATION_PATHS = {"training": 1, "auxiliary": 2}


def objective_of(spec: "Spec") -> Objective:
    """The objective of a spec: of its section, or as files of earlier versions give it.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "objective": {"metric": "area"}}
        >>> objective_of(load_spec(document)).metric
        'area'
    """
    if spec.objective is not None:
        given = spec.objective
        return Objective(given.metric, given.mode, given.last or 1)
    asha = spec.scheduler.asha if spec.scheduler is not None else None
    default = Objective()
    if asha is None:
        return default
    return Objective(asha.metric or default.metric, asha.mode or default.mode)


def check_sweep(spec: "Spec") -> None:
    """Checks that objective, scheduler, searcher, search and tracking fit together.

    Raises:
        SpecError: If one is wrong; names key, value and fix.
    """
    trackers_of(spec.tracking)
    _check_objective(spec)
    _check_searcher(spec)
    _check_confirm(spec)
    if spec.scheduler is not None:
        if not spec.search:
            raise SpecError(
                "scheduler needs a search: it compares points, and there is only one; remove it."
            )
        _check_scheduler(spec)


def check_evaluated(spec: "Spec", where: str, metric: str) -> None:
    """Refuses a metric of evaluations if the spec has no evaluations.

    Args:
        spec: The spec.
        where: The key that names the metric.
        metric: The metric.
    """
    key = f"evaluation.{every_key(spec.clock)}"
    is_absent = metric.startswith("evaluation/") and not spec.evaluation_episodes
    if is_absent or (metric.startswith("holdout/") and spec.evaluation_period is None):
        more = "" if spec.evaluation.episodes else ", and evaluation.episodes to 1 or more"
        raise SpecError(f"{where} needs evaluations; set {key}{more}.")


def _check_objective(spec: "Spec") -> None:
    metric, where = objective_of(spec).metric, "objective.metric"
    asha = spec.scheduler.asha if spec.scheduler is not None else None
    if spec.objective is None and asha is not None and asha.metric:
        where = "scheduler.asha.metric"
    group, slash, name = metric.partition("/")
    known = [*OBJECTIVE_METRICS, *(f"evaluation/{name}" for name in EVALUATION_METRICS)]
    if group == "aux" and name.partition("/")[0]:
        _check_has_loss(spec, f"{where} '{metric}'", name.partition("/")[0])
    elif metric not in known and not (slash and name and group in RESULT_GROUPS):
        raise SpecError(
            f"unknown {where} '{metric}'{suggest(metric, known)} Any other key of a result is "
            "written with its group, as learners/default_policy/entropy."
        )
    if spec.search or spec.objective is not None:
        check_has_episodes(spec, where, metric)
    if group == "holdout":
        check_evaluated(spec, f"{where} '{metric}'", metric)
        if spec.data is None or not spec.data.holdout:
            raise SpecError(f"{where} '{metric}' needs held-out episodes; set data.holdout: 0.1.")
    if group == "diagnostics":
        _check_has_diagnostic(spec, f"{where} '{metric}'", name.partition("/")[0])
    if group == "evaluation":
        check_evaluated(spec, f"{where} '{metric}'", metric)
        if name not in EVALUATION_METRICS:
            end = suggest(metric, known[-len(EVALUATION_METRICS) :])
            raise SpecError(f"unknown {where} '{metric}'{end}")
    if metric == AREA and spec.objective is not None and spec.objective.last is not None:
        raise SpecError(
            f"objective.last is not for the area, which is over all env steps; remove last: "
            f"{spec.objective.last}."
        )


def _check_has_loss(spec: "Spec", where: str, loss: str) -> None:
    searched = any(path.split(".")[0] in ("auxiliary", "preset", "variant") for path in spec.search)
    used = [name for name, options in spec.auxiliary.items() if options is not None]
    if loss not in used and not searched:
        raise SpecError(f"{where}: the spec has no loss '{loss}'{suggest(loss, used)}")


def _check_has_diagnostic(spec: "Spec", where: str, name: str) -> None:
    wanted = [*parse_diagnostics(spec.diagnostics)]
    if name in OPTIONS and name not in wanted:
        raise SpecError(f"{where} needs the diagnostic; add {name} to diagnostics: {wanted}.")


def _check_searcher(spec: "Spec") -> None:
    random = has_random(spec)
    if spec.searcher is not None:
        _check_given(spec.searcher)
    if random and spec.searcher is None:
        raise SpecError(
            "search draws values at random and needs a number of samples; add "
            "searcher: {random: {num_samples: 8}}."
        )
    if spec.searcher is not None and spec.searcher.points is not None:
        _check_listed(spec.searcher.points, dimensions(spec.search))
        return
    if spec.searcher is not None and not random:
        raise SpecError("searcher: search draws no values at random; remove the searcher.")
    if spec.searcher is not None and adapts(spec):
        _check_space(spec.searcher, dimensions(spec.search))


def _check_given(searcher: "SearcherSpec") -> None:
    """Refuses several searchers, none, and one whose package is missing."""
    given = list(dump(searcher))
    if len(given) != 1:
        raise SpecError(
            f"searcher must have one of {', '.join(type(searcher).model_fields)}; got "
            f"{', '.join(given) or 'none'}. Write searcher: {{random: {{num_samples: 8}}}}."
        )
    (name,) = given
    packages = {"optuna": [name], "hyperopt": [name]}.get(name, [])
    if searcher.optuna is not None and searcher.optuna.sampler == "cmaes":
        packages.append("cmaes")
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"searcher.{name} needs the package {package}: pip install 'rlssl[search]'"
            )


def _check_listed(points: Sequence[Mapping[str, Any]], space: Sequence[Dimension]) -> None:
    """Refuses points that are not in the search space, and points that are listed twice."""
    seen: set[str] = set()
    for index, point in enumerate(points):
        where = f"searcher.points[{index}]"
        if point.keys() != {one.path for one in space}:
            raise SpecError(
                f"{where} must give values to {', '.join(one.path for one in space) or 'nothing'}; "
                f"got {', '.join(point) or 'nothing'}."
            )
        for one in space:
            if one.parameters_of(point[one.path]) is None:
                raise SpecError(
                    f"{where}: {one.path} = {point[one.path]!r} is not in search.{one.path}."
                )
        if point_key(point) in seen:
            raise SpecError(f"{where} is listed twice; list each point once.")
        seen.add(point_key(point))


def _check_confirm(spec: "Spec") -> None:
    if spec.confirm is None:
        return
    if not spec.search:
        raise SpecError("confirm needs a search, of which the best points run again; remove it.")
    check_new_seeds(spec.confirm.seeds, spec.seeds, "confirm.seeds")


def check_new_seeds(seeds: Sequence[int], seen: Sequence[int], where: str) -> None:
    """Refuses seeds for a confirmation that the search has seen, or that are given twice.

    Raises:
        SpecError: Names them.
    """
    if len(set(seeds)) < len(seeds):
        raise SpecError(f"{where} must differ; got {list(seeds)}.")
    if known := sorted(set(seeds) & set(seen)):
        raise SpecError(
            f"{where} must be seeds that the search does not see; it has {known} too. Use "
            f"{list(range(100, 100 + len(seeds)))}."
        )


def _check_space(searcher: "SearcherSpec", space: Sequence[Dimension]) -> None:
    """Refuses spaces that the searcher cannot draw."""
    (name,) = dump(searcher)
    every = [one for outer in space for one in (outer, *outer.inner)]
    for one in every:
        if one.is_grid:
            raise SpecError(
                f"search.{one.path}.grid: {name} chooses values and does not try every one; use "
                "choice, or searcher: {random: {num_samples: 8}} for each point of the grid."
            )
    if searcher.optuna is None:
        return
    for one in every:
        if "randn" in one.kind:
            raise SpecError(
                f"search.{one.path}.{one.kind} has no bounds, and optuna needs some; use uniform."
            )
    if searcher.optuna.multivariate is not None and searcher.optuna.sampler != "tpe":
        raise SpecError(
            "searcher.optuna.multivariate is for sampler: tpe; got sampler: "
            f"{searcher.optuna.sampler}. Remove it."
        )
    _check_sampler(searcher.optuna.sampler, space)


def _check_sampler(sampler: str, space: Sequence[Dimension]) -> None:
    where = f"searcher.optuna.sampler: {sampler}"
    choices = [one for one in space if one.kind == "choice"]
    nested = [one for one in choices if any(True for _ in one.inner)]
    if sampler == "cmaes" and choices:
        raise SpecError(
            f"{where} draws numbers only, and search.{choices[0].path} is a choice; use "
            "sampler: tpe."
        )
    if sampler == "cmaes" and sum(one.bounds[0] < one.bounds[1] for one in space) < 2:
        raise SpecError(f"{where} needs two searched numbers or more; use sampler: tpe.")
    if sampler == "gp" and nested:
        raise SpecError(
            f"{where} needs the same values at every point, and search.{nested[0].path} has "
            "spaces inside of a choice; use sampler: tpe."
        )


def check_replaced(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuses settings that the search would replace without a word.

    A value of the search replaces all that the file and the preset have at its path. That is meant
    for single values, for losses, and for null. The settings of another section would be lost.

    Args:
        document: The spec as plain data, with preset and variant applied if they are known.
        overrides: Dotted path -> value, of the command line.

    Raises:
        SpecError: If a setting would be lost; names it, and the fix.
    """
    space = dimensions(document.get("search") or {})
    for path in _leaves(overrides):
        for one in space:
            if path == one.path or path.startswith(f"{one.path}."):
                raise SpecError(
                    f"--set {path}: the sweep searches {one.path}, so this value would not be "
                    f"used. Change the search: --set 'search.{one.path}.grid=[...]'."
                )
    for one in space:
        if one.path.split(".")[0] == "auxiliary":
            continue
        given: Any = document
        for key in one.path.split("."):
            given = given.get(key) if isinstance(given, Mapping) else None
        for value in one.examples if one.kind in LISTS else ():
            if isinstance(value, str) and one.path == "env":
                value = {"id": value}
            for lost in _lost(given, value, one.path):
                if lost != "env.id":
                    raise SpecError(
                        f"search.{one.path} gives {one.path} as a whole: {lost} of the file or the "
                        f"preset would be lost at {value!r}. Repeat it in each value, or search "
                        f"the paths below, as {lost}."
                    )


def _leaves(values: Mapping[str, Any]) -> Iterator[str]:
    """The dotted paths below which there is no further mapping."""
    for path, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves({f"{path}.{key}": below for key, below in value.items()})
        else:
            yield path


def _lost(given: Any, value: Any, path: str) -> Iterator[str]:
    """The paths of a mapping that another mapping does not have."""
    if isinstance(given, Mapping) and isinstance(value, Mapping):
        for key, below in given.items():
            if key in value:
                yield from _lost(below, value[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"


def _check_scheduler(spec: "Spec") -> None:
    assert spec.scheduler is not None
    given = list(dump(spec.scheduler))
    if len(given) != 1:
        raise SpecError(
            f"scheduler must have one of {', '.join(type(spec.scheduler).model_fields)}; got "
            f"{', '.join(given) or 'none'}. Write scheduler: {{asha: {{grace_env_steps: 10_000}}}}."
        )
    end, (name,) = spec.stop.get("env_steps"), given
    if spec.scheduler.asha is not None:
        _check_asha(spec, spec.scheduler.asha)
        end = spec.scheduler.asha.max_env_steps or end
    if spec.scheduler.pbt is not None:
        return
    grace = getattr(spec.scheduler, name).grace_env_steps
    if end is not None and grace > end:
        raise SpecError(
            f"scheduler.{name}.grace_env_steps must be at most {end}, the end of a trial; got "
            f"{grace}."
        )


def _check_asha(spec: "Spec", asha: "AshaSpec") -> None:
    objective = objective_of(spec)
    for key in ("metric", "mode"):
        given, used = getattr(asha, key), getattr(objective, key)
        if given is not None and given != used:
            raise SpecError(
                f"scheduler.asha.{key} is '{given}', but objective.{key} is '{used}'; the whole "
                f"search has one objective: remove scheduler.asha.{key}."
            )


def has_population(spec: "Spec") -> bool:
    """Whether the points of the search are the members of a population."""
    return spec.scheduler is not None and spec.scheduler.pbt is not None


def changeable_of_losses() -> list[str]:
    """The options of every auxiliary loss whose values can change in a run.

    Example:
        >>> changeable_of_losses()
        ['coeff', 'intrinsic_coeff', 'lr', 'schedule', 'grad_clip', 'every']
    """
    from rlssl.auxiliary.base import AuxiliaryLossConfig

    return [field.name for field in dataclasses.fields(AuxiliaryLossConfig)]


def check_population(spec: "Spec") -> None:
    """Checks what population-based training needs of a spec, without the registries.

    Raises:
        SpecError: If the spec does not fit a population; names key, value and fix.
    """
    if not has_population(spec) or not spec.search:
        return
    assert spec.scheduler is not None and spec.scheduler.pbt is not None
    if len(spec.seeds) > 1:
        raise SpecError(
            f"scheduler.pbt: a point is one member, and trains with one seed; got seeds: "
            f"{spec.seeds}. Use seeds: [{spec.seeds[0]}], and more points: "
            "searcher: {random: {num_samples: 8}}."
        )
    if adapts(spec):
        raise SpecError(
            "scheduler.pbt changes the values itself, and every member starts at once; use "
            "searcher: {random: {num_samples: 8}} instead of a study."
        )
    if num_points(spec) < 2:
        raise SpecError(
            "scheduler.pbt needs at least two members, and the search has one point; raise "
            "searcher.random.num_samples."
        )
    if spec.confirm is not None:
        raise SpecError(
            "confirm: with scheduler.pbt, the values of a member change in its run, so that there "
            "is no point to run again; remove confirm."
        )
    if not spec.checkpoint.replay_buffer:
        raise SpecError(
            "checkpoint.replay_buffer: false loses the replay buffer whenever scheduler.pbt pauses "
            "a member; remove it."
        )
    if spec.reuse_processes:
        raise SpecError(
            "reuse_processes: true: with scheduler.pbt, a paused member continues in a new "
            "process; remove reuse_processes."
        )
    _check_population_steps(spec)
    _check_population_paths(spec)


def _check_population_steps(spec: "Spec") -> None:
    assert spec.scheduler is not None and spec.scheduler.pbt is not None
    pbt, end = spec.scheduler.pbt, spec.stop.get("env_steps")
    for key in ("every_env_steps", "start_env_steps"):
        steps = getattr(pbt, key)
        if end is not None and steps is not None and steps >= end:
            raise SpecError(
                f"scheduler.pbt.{key} must be less than {end}, the end of a trial; got {steps}."
            )


def _check_population_paths(spec: "Spec") -> None:
    for one in dimensions(spec.search):
        section, *keys = one.path.split(".")
        if _POPULATION_PATHS.get(section) != len(keys):
            raise SpecError(
                f"search.{one.path}: scheduler.pbt changes searched values in a run, and "
                f"'{one.path}' cannot change in a run; give it one value, and search settings as "
                "training.lr or auxiliary.icm.coeff."
            )
        if any(True for _ in one.inner):
            raise SpecError(
                f"search.{one.path}.{one.kind} has spaces inside of its values, which "
                "scheduler.pbt cannot change; list plain values."
            )


def check_changeable(spec: "Spec", settings: "type[TrainingSettings]") -> None:
    """Checks that every searched value can change in a run of this algorithm.

    Args:
        spec: A spec whose search has paths below ``training`` and ``auxiliary`` only.
        settings: The settings of its algorithm.

    Raises:
        SpecError: If a value cannot; names it, and those that can.
    """
    if not has_population(spec):
        return
    for path in spec.search:
        section, *_, key = path.split(".")
        known = settings.changeable() if section == "training" else changeable_of_losses()
        if key not in known:
            raise SpecError(
                f"search.{path}: scheduler.pbt changes searched values in a run, and '{key}' "
                f"cannot change in a run of {spec.algorithm}; give it one value. "
                f"{path.removesuffix(key)}... can be one of: {', '.join(known)}."
            )
