"""Checks a spec against the registries, as far as possible before anything starts."""

import importlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlssl.clocks import UPDATES
from rlssl.diagnostics.settings import check_episodes, parse_diagnostics
from rlssl.errors import SpecError, closest, suggest, unknown_name
from rlssl.experiment.spec.foreign_words import (
    algorithm_called,
    environment_called,
    setting_called,
)
from rlssl.experiment.spec.schema import START_KEYS, dump
from rlssl.experiment.spec.search_checks import (
    check_changeable,
    check_evaluated,
    check_population,
    check_sweep,
    has_population,
)
from rlssl.experiment.spec.sections.data import (
    check_clock,
    check_data,
    check_has_episodes,
    makes_environment,
)
from rlssl.plugins import with_line
from rlssl.system.annotations.types import call_arguments, check_arguments, field_types
from rlssl.system.stores.places import parse_place

if TYPE_CHECKING:
    from rlssl.experiment.spec.schema import Spec

#: Metrics at which a trial can stop.
STOP_METRICS = (
    "env_steps",
    "agent_steps",
    "updates",
    "episode_return_mean",
    "success_rate",
    "time_total_s",
    "evaluation/episode_return_mean",
)
#: Values that Ray Tune has and rlssl does not -> what to use instead.
NOT_SUPPORTED = {
    "scheduler": {
        "pb2": "use pbt",
        "hyperband": "use asha",
        "bohb": "use asha with searcher: {optuna: {num_samples: 40}}",
    },
}

#: What to do about a name that is nowhere registered.
_OF_A_PLUGIN = (
    "If a module of your own registers it, name the module: --plugin my_module, or in the spec "
    "plugins: [my_module]."
)


def refuse_unsupported(key: str, names: Iterable[str]) -> None:
    """Refuses values that rlssl does not support.

    Raises:
        SpecError: If there is such a value; names the key and the value.
    """
    for name in names:
        if name in NOT_SUPPORTED[key]:
            raise SpecError(f"{key}: '{name}' is not supported; {NOT_SUPPORTED[key][name]}.")


def algorithm_class(name: str) -> Any:
    """The config class of an algorithm.

    Raises:
        SpecError: If there is no such algorithm, with a suggestion.
    """
    from rlssl.registry import ALGORITHMS

    return ALGORITHMS[name]


def layer_values(key: str, name: str, algorithm: str) -> Mapping[str, Any]:
    """The settings of an algorithm's preset or variant, as a partial spec.

    Args:
        key: "preset" or "variant".
        name: Name of the preset or variant.
        algorithm: Name of the algorithm.

    Raises:
        SpecError: If the algorithm has no such preset or variant, with a suggestion.
    """
    known = getattr(algorithm_class(algorithm), f"{key}s")
    if not isinstance(name, str) or name not in known:
        end = suggest(str(name), known)
        raise SpecError(f"unknown {key} {name!r} of algorithm '{algorithm}'{end}")
    return known[name]


def check(spec: "Spec") -> None:
    """Checks the names, types and combinations that the schema does not check.

    Raises:
        SpecError: If one is wrong; names key, value and fix.
    """
    check_form(spec)
    check_names(spec)
    config_class = algorithm_class(spec.algorithm)
    check_data(spec, config_class)
    if makes_environment(spec, config_class):
        searched = bool(spec.search)
        check_environment(spec.env, partial=searched)
        if spec.evaluation.env:
            _check_evaluation_env({**spec.env, **spec.evaluation.env}, partial=searched)
    for key in ("preset", "variant"):
        if getattr(spec, key) is not None:
            layer_values(key, getattr(spec, key), spec.algorithm)
    check_training_words(spec.training, config_class.training_arguments())
    check_arguments("training", spec.training, config_class.training_arguments())
    check_model(spec)
    check_auxiliary(spec)
    check_connectors(spec)
    check_changeable(spec, config_class.settings_class)


def check_training_words(training: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Answers settings that only other libraries have with rlssl's own.

    Raises:
        SpecError: If there is such a setting; names both.
    """
    for key in training:
        own = "" if key in arguments else setting_called(key, arguments)
        if own:
            raise SpecError(f"unknown key 'training.{key}' in the spec; in rlssl it is '{own}'.")


def check_form(spec: "Spec") -> None:
    """Checks what needs no registry: name, stop metrics, and the sweep as a whole.

    Raises:
        SpecError: If one is wrong; names key, value and fix.
    """
    check_name(spec.name)
    if parse_place(spec.storage) is not None and has_population(spec):
        raise SpecError(
            f"storage '{spec.storage}': the members of scheduler.pbt read each other's checkpoints "
            "in one folder; give a folder, or the scheduler asha."
        )
    check_clock(spec)
    check_stop(spec)
    diagnostics = parse_diagnostics(spec.diagnostics)
    check_episodes(diagnostics, spec.evaluation_period, spec.evaluation.episodes)
    check_gpus(spec)
    check_sweep(spec)
    check_population(spec)


def check_gpus(spec: "Spec") -> None:
    """Checks that GPUs are shared in a way that torch and the algorithm support.

    Raises:
        SpecError: If they are not; names key, value and fix.
    """
    resources = spec.resources
    share, learners = resources.gpus_per_learner, resources.learners
    if share > 1:
        raise SpecError(
            f"resources.gpus_per_learner must be at most 1; got {share:g}. A Learner computes on "
            "one GPU; for more GPUs, use more Learners: resources={learners: "
            f"{math.ceil(share)}, gpus_per_learner: 1}}."
        )
    if learners > 1 and 0 < share < 1:
        raise SpecError(
            f"resources.learners: {learners} with resources.gpus_per_learner: {share:g} would put "
            "several Learners of a trial on one GPU, and NCCL, by which they exchange gradients, "
            "needs a GPU for each. Use one Learner (learners: 0), or gpus_per_learner: 1."
        )
    of_runner, where = resources.gpus_per_env_runner, "resources.gpus_per_env_runner"
    if of_runner > 1:
        raise SpecError(f"{where} must be at most 1; got {of_runner:g}. A policy acts on one GPU.")
    if of_runner and spec.algorithm == "a3c":
        raise SpecError(
            f"{where} must be 0 for a3c; got {of_runner:g}. Its workers compute gradients on CPUs."
        )
    if of_runner and not resources.env_runners:
        raise SpecError(
            f"{where}: {of_runner:g} is for remote processes that sample, and "
            "resources.env_runners is 0: the trial's own process samples, on the CPU. Set "
            "env_runners, or leave the key out."
        )


def check_names(spec: "Spec") -> None:
    """Checks that names are registered, without importing the registered objects.

    Raises:
        SpecError: If a name is unknown; names key and value, with a suggestion.
    """
    from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES, ENCODERS

    losses = [name for name, options in spec.auxiliary.items() if options is not None]
    encoders = [] if spec.model.encoder is None else [spec.model.encoder]
    wanted = ((ALGORITHMS, [spec.algorithm]), (AUXILIARY_LOSSES, losses), (ENCODERS, encoders))
    for registry, names in wanted:
        for name in names:
            if name not in registry:
                if registry is ALGORITHMS:
                    own = algorithm_called(name)
                    hint = f"In rlssl it is {own}." if own else ""
                elif closest(name, registry):
                    hint = ""
                else:
                    hint = f"{_OF_A_PLUGIN} Known: {', '.join(sorted(registry))}."
                raise unknown_name(registry.kind, name, registry, hint)


def check_name(name: str) -> None:
    """Checks a run's name, which becomes a folder: no separators, spaces or leading dots."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.=+@-]{0,119}", name):
        raise SpecError(
            "name must be letters, digits and any of '_.=+@-', at most 120 characters, and start "
            f"with a letter, a digit or '_'; got {name!r}."
        )


def _check_evaluation_env(env: Mapping[str, Any], *, partial: bool) -> None:
    """As `check_environment`; its message then says that it is about ``evaluation.env``."""
    try:
        check_environment(env, partial=partial)
    except SpecError as error:
        raise type(error)(f"evaluation.env: {error}") from error


def check_environment(env: Mapping[str, Any], *, partial: bool = False) -> None:
    """Checks the environment's id and options; ``preflight`` builds the environment later.

    Args:
        env: ``{"id": ..., **options}``.
        partial: Whether a search sets more options.

    Raises:
        SpecError: If the id or an option is wrong; names key, value and fix.
    """
    from rlssl.environments import building

    if not isinstance(env.get("id"), str) or not env["id"]:
        raise SpecError(f"env needs an id, as {{id: CartPole-v1}}; got {dict(env)!r}.")
    for key in building.RESERVED_ENV_KEYS:
        if key in env and key != "id":
            raise SpecError(f"env.{key} is set by rlssl for every environment; leave it out.")
    building.check_env_options(env, partial=partial)
    if building.find_environment(env["id"]) is not None:
        return
    if own := environment_called(env["id"]):
        raise SpecError(
            f"environment {env['id']!r}: in rlssl it is {own}, with the preprocessing of the "
            f"literature. The game without it is 'ale_py:{env['id']}'."
        )
    import gymnasium as gym

    module, _, name = env["id"].rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        gym.spec(name)
    except gym.error.Error as error:
        hint = _hint_at_environment(env["id"])
        raise unknown_name("environment", env["id"], _resembling(env["id"]), hint) from error
    except (Exception, SystemExit) as error:  # the module is a user's, and may raise anything
        words = with_line(f"{type(error).__name__}: {error}", error)
        raise SpecError(f"env.id {env['id']!r}: {words}.") from error


def _hint_at_environment(name: str) -> str:
    """What to do about an unknown id."""
    if _is_of_a_plugin(name):
        return f"{_OF_A_PLUGIN} `rlssl list envs` shows the others."
    words = "`rlssl list envs` shows all; 'module:Id' imports a module that registers Id."
    return words if closest(name, _resembling(name)) else f"{words} {_OF_A_PLUGIN}"


def _is_of_a_plugin(name: str) -> bool:
    """Whether an id has a namespace that no known environment has."""
    from rlssl.registry import ENVIRONMENTS

    namespace, slash, _ = name.partition("/")
    return bool(slash) and not any(known.startswith(f"{namespace}/") for known in ENVIRONMENTS)


def _resembling(name: str) -> set[str]:
    """Ids to search for a suggestion: gymnasium's, and the suites' if none of them is close."""
    import gymnasium as gym

    if _is_of_a_plugin(name):
        return set()

    from rlssl.environments.building import list_environments
    from rlssl.registry import ENVIRONMENTS

    known = set(gym.registry) | set(ENVIRONMENTS)
    if closest(name, known):
        return known
    # Listing the suites' environments imports the suites, which takes seconds.
    return known | {row["id"] for row in list_environments()}


def check_model(spec: "Spec") -> None:
    """Checks ``model`` against the keys that algorithms support and the encoder's arguments."""
    from rlssl.algorithms.common.config import MODEL_KEYS
    from rlssl.registry import ENCODERS

    for key in dump(spec.model):
        if key not in (*MODEL_KEYS, *START_KEYS):
            raise SpecError(f"model.{key} is not supported yet; leave it out.")
    is_random = spec.model.from_ is None and not spec.search
    if is_random and spec.model.freeze and spec.model.normalize_observations:
        raise SpecError(
            "model.freeze without model.from freezes the statistics of observations before the "
            "first one, so that model.normalize_observations has no effect; leave it out."
        )
    if spec.model.encoder is not None:
        hints = call_arguments(ENCODERS[spec.model.encoder])
        check_arguments("model.encoder_config", spec.model.encoder_config, hints)


def check_auxiliary(spec: "Spec") -> None:
    """Checks the losses' fields, controls and ranges."""
    from rlssl.auxiliary.base import CONTROLS
    from rlssl.auxiliary.building import options_for, parse_auxiliary
    from rlssl.registry import AUXILIARY_LOSSES

    wanted = {name: options for name, options in spec.auxiliary.items() if options is not None}
    for name, options in wanted.items():
        config_class = AUXILIARY_LOSSES[name].Config
        fields = field_types(config_class)
        where = f"auxiliary.{name}"
        check_arguments(where, options, {**fields, **dict.fromkeys(CONTROLS, bool)})
    parse_auxiliary(options_for(wanted, spec.env["id"]))


def check_effects(specs: Sequence["Spec"]) -> None:
    """Refuses options of losses, and ``model.load``, that change nothing at any point of a search.

    Args:
        specs: The spec of a trial, or those of all points that are checked.

    Raises:
        SpecError: Naming the option, its value and what would give it an effect.
    """
    from rlssl.auxiliary.building import ineffective_options, no_effect_words

    loads = [spec.model.load for spec in specs if spec.model.load is not None]
    if loads and all(spec.model.from_ is None for spec in specs):
        raise SpecError(
            f"model.load: {loads[0]} says what is taken of model.from, and there is none; add "
            "model.from: RUN, or leave model.load out."
        )
    every = []
    for spec in specs:
        losses = {name: given for name, given in spec.auxiliary.items() if given is not None}
        every.append((losses, ineffective_options(losses)))
    for losses, found in every:
        for path, needed in found.items():
            _, name, key = path.split(".")
            # A point that compares variants may have an option of the other points' variant.
            if all(path in idle or key not in given.get(name, {}) for given, idle in every):
                raise SpecError(no_effect_words(path, losses[name][key], needed))


def check_connectors(spec: "Spec") -> None:
    """Checks that every "module:attr" can be imported."""
    from rlssl.plugins import resolve

    for key in ("env_to_module", "learner"):
        for reference in getattr(spec.connectors, key):
            try:
                resolve(reference)
            except SpecError as error:
                raise SpecError(f"connectors.{key}: {error}") from error


def check_stop(spec: "Spec") -> None:
    """Checks the stop metrics and their values."""
    for metric, value in spec.stop.items():
        if metric not in STOP_METRICS:
            raise SpecError(f"unknown stop metric '{metric}'{suggest(metric, STOP_METRICS)}")
        if metric.endswith(("_steps", UPDATES)) and not isinstance(value, int):
            raise SpecError(f"stop.{metric} must be a whole number; got {value!r}.")
        if metric.endswith(("_steps", UPDATES, "_s")) and value <= 0:
            raise SpecError(f"stop.{metric} must be > 0; got {value!r}.")
        check_has_episodes(spec, f"stop.{metric}", metric)
        check_evaluated(spec, f"stop.{metric}", metric)
