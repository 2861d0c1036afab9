"""Checks of a spec against what is registered: all that can be known before anything starts."""

import dataclasses
import functools
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from rlssl.errors import SpecError, unknown_name
from rlssl.experiment.documents import did_you_mean

if TYPE_CHECKING:
    from rlssl.experiment.schema import Spec

#: What a trial can stop on and a scheduler can rank by.
STOP_METRICS = (
    "env_steps",
    "agent_steps",
    "episode_return_mean",
    "success_rate",
    "time_total_s",
    "evaluation/episode_return_mean",
)
RANKING_METRICS = ("episode_return_mean", "success_rate", "evaluation/episode_return_mean")
TRACKERS = ("tensorboard",)
LATER = {
    "searcher": ("optuna", "hyperopt"),
    "scheduler": ("pbt", "median"),
    "tracking": ("wandb", "mlflow"),
}


def refuse_later(key: str, names: Iterable[str]) -> None:
    """Refuses what rlssl will support, but does not yet.

    Raises:
        SpecError: Naming the key and the value.
    """
    for name in names:
        if name in LATER[key]:
            raise SpecError(f"{key}: '{name}' is not supported yet.")


def algorithm_class(name: str) -> Any:
    """The config class of an algorithm.

    Raises:
        SpecError: If there is no such algorithm, with a suggestion.
    """
    from rlssl.algorithms import ALGORITHMS

    return ALGORITHMS[name]


def layer_values(key: str, name: str, algorithm: str) -> Mapping[str, Any]:
    """What a preset or variant of an algorithm sets, as a partial spec.

    Args:
        key: "preset" or "variant".
        name: Which one.
        algorithm: Name of the algorithm.

    Raises:
        SpecError: If the algorithm has no such preset or variant, with a suggestion.
    """
    known = getattr(algorithm_class(algorithm), f"{key}s")
    if not isinstance(name, str) or name not in known:
        end = did_you_mean(str(name), known)
        raise SpecError(f"unknown {key} {name!r} of algorithm '{algorithm}'{end}")
    return known[name]


def check(spec: "Spec") -> None:
    """Checks names, types and combinations that the schema alone cannot.

    Raises:
        SpecError: Naming key, value and fix.
    """
    config_class = algorithm_class(spec.algorithm)
    for key in ("preset", "variant"):
        if getattr(spec, key) is not None:
            layer_values(key, getattr(spec, key), spec.algorithm)
    check_name(spec.name)
    check_environment(spec.env)
    check_arguments("training", spec.training, config_class.training_arguments())
    check_model(spec)
    check_auxiliary(spec.auxiliary)
    check_connectors(spec)
    check_stop(spec)
    check_schedulers(spec)


def check_name(name: str) -> None:
    """A run's name is a folder: no separators, no spaces, nothing hidden."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.=+@-]{0,119}", name):
        raise SpecError(
            f"name must be letters, digits and any of '_.=+@-', at most 120, not starting with a "
            f"dot or dash; got {name!r}."
        )


def check_environment(env: Mapping[str, Any]) -> None:
    """Checks that the environment's id is known; building it is ``preflight``'s affair."""
    from rlssl import registry

    if not isinstance(env.get("id"), str) or not env["id"]:
        raise SpecError(f"env needs an id, as {{id: CartPole-v1}}; got {dict(env)!r}.")
    for key in registry.RESERVED_ENV_KEYS:
        if key in env and key != "id":
            raise SpecError(f"env.{key} is given to every environment by rlssl; leave it out.")
    if registry.find_environment(env["id"]) is not None:
        return
    import gymnasium as gym

    module, _, name = env["id"].rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        gym.spec(name)
    except gym.error.Error as error:
        known = {row["id"] for row in registry.list_environments()} | set(gym.registry)
        hint = "`rlssl list envs` shows them; 'module:Id' imports a module that registers Id."
        raise unknown_name("environment", env["id"], known, hint) from error
    except Exception as error:  # of somebody's module
        raise SpecError(f"env.id {env['id']!r}: {type(error).__name__}: {error}.") from error


def check_model(spec: "Spec") -> None:
    """Checks ``model`` against what algorithms can build and the encoder's arguments."""
    from rlssl.algorithms.config_mixin import MODEL_DEFAULTS_RLSSL
    from rlssl.registry import ENCODERS

    for key in type(spec.model).model_fields:
        if key not in MODEL_DEFAULTS_RLSSL and getattr(spec.model, key) is not None:
            raise SpecError(f"model.{key} is not supported yet; leave it out.")
    if spec.model.encoder is not None:
        hints = call_arguments(ENCODERS[spec.model.encoder])
        check_arguments("model.encoder_config", spec.model.encoder_config, hints)


def check_auxiliary(auxiliary: Mapping[str, Any]) -> None:
    """Checks losses, their fields, controls and ranges."""
    from rlssl.auxiliary.base import CONTROLS, parse_auxiliary
    from rlssl.registry import AUXILIARY_LOSSES

    wanted = {name: options for name, options in auxiliary.items() if options is not None}
    for name, options in wanted.items():
        config_class = AUXILIARY_LOSSES[name].Config
        fields = field_types(config_class)
        where = f"auxiliary.{name}"
        check_arguments(where, options, {**fields, **dict.fromkeys(CONTROLS, bool)})
    parse_auxiliary(wanted)


def check_connectors(spec: "Spec") -> None:
    """Checks that each "module:attr" can be imported."""
    from rlssl.registry import resolve

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
            raise SpecError(f"unknown stop metric '{metric}'{did_you_mean(metric, STOP_METRICS)}")
        if metric.endswith("_steps") and not isinstance(value, int):
            raise SpecError(f"stop.{metric} must be a whole number; got {value!r}.")
        if metric.endswith(("_steps", "_s")) and value <= 0:
            raise SpecError(f"stop.{metric} must be > 0; got {value!r}.")
        _check_evaluated(spec, f"stop.{metric}", metric)


def _check_evaluated(spec: "Spec", where: str, metric: str) -> None:
    if metric.startswith("evaluation/") and spec.evaluation.every_env_steps is None:
        raise SpecError(f"{where} needs evaluations; set evaluation.every_env_steps.")


def check_schedulers(spec: "Spec") -> None:
    """Checks scheduler, searcher, search and tracking against each other."""
    from rlssl.experiment.search import has_random

    refuse_later("tracking", spec.tracking)
    for tracker in spec.tracking:
        if tracker not in TRACKERS:
            raise SpecError(f"unknown tracking '{tracker}'{did_you_mean(tracker, TRACKERS)}")
    random = has_random(spec)
    if random and spec.searcher is None:
        raise SpecError(
            "search draws values at random; say how many: searcher: {random: {num_samples: 8}}."
        )
    if spec.searcher is not None and not random:
        raise SpecError("searcher: nothing in search is drawn at random; remove the searcher.")
    if spec.scheduler is not None:
        if not spec.search:
            raise SpecError("scheduler needs a search: with one point there is nothing to compare.")
        _check_asha(spec)


def _check_asha(spec: "Spec") -> None:
    assert spec.scheduler is not None
    asha = spec.scheduler.asha
    if asha.metric not in RANKING_METRICS:
        end = did_you_mean(asha.metric, RANKING_METRICS)
        raise SpecError(f"unknown scheduler.asha.metric '{asha.metric}'{end}")
    _check_evaluated(spec, "scheduler.asha.metric", asha.metric)
    most = asha.max_env_steps or spec.stop.get("env_steps")
    if most is not None and asha.grace_env_steps > most:
        raise SpecError(
            f"scheduler.asha.grace_env_steps must be at most {most}, the end of a trial; "
            f"got {asha.grace_env_steps}."
        )


# --- types -------------------------------------------------------------------------------------


def check_arguments(where: str, given: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Checks keys and types of ``given`` against annotations.

    Args:
        where: Dotted path of ``given`` in the spec.
        given: Plain data.
        hints: Name -> annotation; a name missing from it is an error, unless "**" is in it.

    Raises:
        SpecError: For an unknown key, with a suggestion, or a value of another type.
    """
    for key, value in given.items():
        if key in hints:
            check_type(f"{where}.{key}", value, hints[key])
        elif "**" not in hints:
            close = did_you_mean(key, hints, f"{where}.")
            raise SpecError(f"unknown key '{where}.{key}' in the spec{close}")


def check_type(path: str, value: Any, annotation: Any) -> None:
    """Checks that ``value`` is what ``annotation`` says: whole numbers count as numbers, no more.

    Raises:
        SpecError: Naming path, value and what is expected.
    """
    try:
        _adapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise SpecError(f"{path} must be {describe(annotation)}; got {value!r}.") from error


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


_cached_adapter = functools.lru_cache(maxsize=256)(_new_adapter)


def describe(annotation: Any) -> str:
    """An annotation in words: "a number or a list of [env_steps, value]"."""
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "null",
        Any: "anything",
    }
    if annotation in words:
        return words[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(argument) for argument in arguments))
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin is typing.Annotated:
        return describe(arguments[0])
    return _describe_container(annotation, origin or annotation, arguments)


def _describe_container(annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> str:
    if not isinstance(origin, type):
        return str(annotation)
    if issubclass(origin, Mapping):
        return "a mapping"
    if not issubclass(origin, Sequence):
        return str(getattr(annotation, "__name__", annotation))
    inner = typing.get_args(arguments[0]) if arguments else ()
    if inner and describe(inner[0]) == "a number":
        return "a list of [env_steps, value]"
    if not arguments:
        return "a list"
    return f"a list, each {describe(arguments[0])}"


def field_types(config_class: type) -> dict[str, Any]:
    """Field -> annotation of a dataclass."""
    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


def call_arguments(encoder: Callable[..., Any]) -> dict[str, Any]:
    """Argument -> annotation of what configures an encoder; "**" where it takes any."""
    parameters = list(inspect.signature(encoder).parameters.values())[1:]
    annotated = encoder.__init__ if isinstance(encoder, type) else encoder  # type: ignore[misc]
    hints = typing.get_type_hints(annotated)
    return {"**" if p.kind is p.VAR_KEYWORD else p.name: hints.get(p.name, Any) for p in parameters}
