"""The schema of a whole spec file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rlssl.diagnostics.settings import OPTIONS as DIAGNOSTICS
from rlssl.experiment.json_schema.environments import (
    REFUSED_PATHS,
    DeclaredEnvironments,
    evaluation_env,
)
from rlssl.experiment.json_schema.parts import (
    Schema,
    named_options,
    nullable,
    object_of,
    one_of_or_text,
    options_schema,
    type_schema,
    with_underscores,
    without_titles,
)
from rlssl.experiment.spec.checks import STOP_METRICS, algorithm_class
from rlssl.experiment.spec.dimension import DISTRIBUTIONS, LISTS
from rlssl.experiment.spec.schema import Spec, keys_of
from rlssl.experiment.spec.search_checks import OBJECTIVE_METRICS
from rlssl.experiment.spec.search_space import SEARCHABLE
from rlssl.experiment.spec.trackers import OPTIONS as TRACKERS
from rlssl.experiment.spec.trackers import TENSORBOARD
from rlssl.plugins import load_plugins
from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES, ENCODERS
from rlssl.run_files import EFFECTIVE
from rlssl.system.annotations.comments import field_comments

#: A space of the search, defined once in the schema.
_SPACE: Schema = {"$ref": "#/$defs/Space"}


def spec_schema() -> Schema:
    """The JSON schema of a spec file: keys, types, defaults, ranges and descriptions.

    It knows what is registered when it is called, so import plug-ins before. Options of an
    environment are checked if the environment declares them.

    Returns:
        A schema of draft 2020-12.

    Example:
        >>> schema = spec_schema()
        >>> schema["required"]
        ['algorithm']
        >>> schema["properties"]["algorithm"]["enum"]
        ['a3c', 'bc', 'dagger', 'ddpg', 'iql', 'ppo', 'pretrain', 'rainbow', 'sac']
    """
    _register_all()
    schema = without_titles(Spec.model_json_schema())
    sections = _by_name(Spec)
    for name, section in schema["$defs"].items():
        _describe(section, sections[name])
    _describe(schema, Spec)
    schema["$defs"]["Space"] = _space()
    environments = DeclaredEnvironments()
    schema["$defs"] |= environments.definitions
    properties = schema["properties"]
    for key, values in {"env": environments.training(), **_special(schema["$defs"])}.items():
        properties[key] = {**values, "description": properties[key].get("description", "")}
    _complete_model(schema["$defs"]["ModelSpec"]["properties"])
    schema["$defs"]["EvaluationSpec"]["properties"]["env"] |= evaluation_env()
    schema["$defs"]["ObjectiveSpec"]["properties"]["metric"] |= one_of_or_text(OBJECTIVE_METRICS)
    # A key without a value is a key that is left out; `name` is the name of the file.
    # With data, the environment is that of the data set.
    required, never_null = ["algorithm"], ("algorithm", "env")
    schema["properties"] = {
        key: value if key in never_null else nullable(value) for key, value in properties.items()
    }
    # Files that rlssl writes have these two besides.
    schema["properties"] |= {"provenance": {"type": "object"}, EFFECTIVE: {"type": "object"}}
    schema |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rlssl spec",
        "required": required,
        "anyOf": [{"required": ["env"]}, {"required": ["data"]}],
        "allOf": [*map(_of_algorithm, sorted(ALGORITHMS)), *environments.of_spec()],
    }
    complete: Schema = with_underscores(schema)
    return complete


def _register_all() -> None:
    import rlssl.auxiliary
    import rlssl.networks  # noqa: F401

    load_plugins()


def _by_name(of: type) -> dict[str, type]:
    """The pydantic models of the module of the spec, by their names."""
    module = __import__(of.__module__, fromlist=["*"])
    return {name: value for name, value in vars(module).items() if isinstance(value, type)}


def _describe(schema: Schema, of: type) -> None:
    """Adds the comments above the fields; defaults that are whole sections are left out."""
    comments = field_comments(of)
    names = keys_of(of) if issubclass(of, BaseModel) else {}
    for key, field in schema.get("properties", {}).items():
        name = names.get(key, key)
        if name in comments:
            field["description"] = comments[name]
        if isinstance(field.get("default"), dict) or field.get("default", 0) is None:
            del field["default"]


def _special(defs: Mapping[str, Schema]) -> dict[str, Schema]:
    """The keys whose values depend on the registries."""
    trackers = {TENSORBOARD: object_of({})}
    trackers |= {name: options_schema(of) for name, of in TRACKERS.items()}
    losses = {
        name: {**nullable(options_schema(of.Config)), "description": _first_line(of)}
        for name, of in sorted((name, AUXILIARY_LOSSES[name]) for name in AUXILIARY_LOSSES)
    }
    diagnostics = {name: options_schema(of) for name, of in DIAGNOSTICS.items()}
    return {
        "algorithm": {"enum": sorted(ALGORITHMS)},
        "auxiliary": object_of(losses),
        "diagnostics": named_options(diagnostics),
        "tracking": named_options(trackers),
        "stop": object_of({metric: {"type": "number"} for metric in STOP_METRICS}),
        "search": _search(losses, defs),
    }


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


def _complete_model(properties: dict[str, Schema]) -> None:
    """Fills in the names of encoders and augmentations."""
    from rlssl.networks.augmentation import AUGMENTATIONS

    named = {
        name: nullable(object_of({option: {**type_schema(of), "default": default}}))
        for name, (_, option, of, default) in AUGMENTATIONS.items()
    }
    properties["encoder"] |= nullable({"enum": sorted(ENCODERS)})
    properties["augmentation"] |= nullable({"anyOf": [{"enum": list(named)}, object_of(named)]})


def _search(losses: Mapping[str, Schema], defs: Mapping[str, Schema]) -> Schema:
    """Dotted paths -> spaces; other rules have the options of algorithms and environments."""
    paths = [*SEARCHABLE]
    for section, of in (
        ("model", "ModelSpec"),
        ("env_runners", "EnvRunnersSpec"),
        ("evaluation", "EvaluationSpec"),
        ("connectors", "ConnectorsSpec"),
        ("data", "DataSpec"),
    ):
        paths += [f"{section}.{key}" for key in defs[of]["properties"]]
    for name, loss in losses.items():
        paths += [f"auxiliary.{name}"]
        paths += [f"auxiliary.{name}.{key}" for key in loss["anyOf"][0]["properties"]]
    # Every path below options: they are not known here.
    below = r"^(env|training|evaluation\.env|model\.\w+|auxiliary\.\w+\.\w+)\."
    return {
        "type": "object",
        "properties": dict.fromkeys(paths, _SPACE),
        "patternProperties": {below: _SPACE, REFUSED_PATHS: False},
        "additionalProperties": False,
    }


def _space() -> Schema:
    """What is searched at one path: ``{kind: values or bounds}``."""
    kinds: dict[str, Schema] = {kind: {"type": "array", "minItems": 1} for kind in LISTS}
    kinds |= {kind: _bounds(len(names)) for kind, names in DISTRIBUTIONS.items()}
    return object_of(kinds, minProperties=1, maxProperties=1)


def _bounds(size: int) -> Schema:
    return {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}


def _of_algorithm(name: str) -> Schema:
    """What holds if the spec has this algorithm."""
    of = algorithm_class(name)
    training = dict(_settings(of))
    known = "|".join(map(re.escape, training))
    search = {
        "properties": {f"training.{key}": _SPACE for key in training},
        "patternProperties": {rf"^training\.(?!({known})(\.|$))": False},
    }
    # A search over algorithms may have paths of each of them.
    only = {"properties": {"search": {"not": {"type": "object", "required": ["algorithm"]}}}}
    return {
        "if": {"properties": {"algorithm": {"const": name}}, "required": ["algorithm"]},
        "then": {
            "properties": {
                "preset": nullable({"enum": list(of.presets)}),
                "variant": nullable({"enum": list(of.variants)}),
                "training": nullable(object_of(training)),
            },
            "if": only,
            "then": {"properties": {"search": search}},
        },
    }


def _settings(config_class: Any) -> Iterator[tuple[str, Schema]]:
    """The arguments of ``training``, each with type, default, range and meaning."""
    settings = config_class.settings_class
    defaults, described = settings().defaults(), settings.descriptions()
    types = settings.types()
    for name in config_class.training_arguments():
        schema = type_schema(types[name]) if name in types else {}
        if name in described:
            of = described[name]
            schema |= {"description": of.meaning.replace("``", "`").replace("None", "null")}
            bounds = {"minimum": of.low, "exclusiveMinimum": of.above, "maximum": of.high}
            schema |= {key: bound for key, bound in bounds.items() if bound is not None}
        if defaults.get(name) is not None:
            schema["default"] = defaults[name]
        yield name, schema
