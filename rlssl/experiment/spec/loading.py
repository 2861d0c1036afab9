"""Loads specs: reads a document, applies presets and overrides, and checks the result."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlssl.analysis.objective import Objective
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.checks import (
    check,
    check_effects,
    check_environment,
    check_form,
    check_names,
    layer_values,
    refuse_unsupported,
)
from rlssl.experiment.spec.overrides import LAYERS, apply_overrides, merge, parse_override, set_path
from rlssl.experiment.spec.schema import Spec, dump, parse
from rlssl.experiment.spec.search_checks import check_replaced, objective_of
from rlssl.experiment.spec.search_space import (
    dimensions,
    points_to_check,
)
from rlssl.experiment.spec.secrets import refuse_secrets
from rlssl.experiment.spec.sections.data import with_data
from rlssl.experiment.spec.yaml_reader import MATRIX, plain, read_document
from rlssl.old_names import current_value
from rlssl.run_files import EFFECTIVE
from rlssl.system.files import replace_text
from rlssl.system.yaml_files import yaml_text


def load_spec(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    extra: Mapping[str, Any] | None = None,
) -> Spec:
    """Reads a spec and checks all of it, including every point of its search.

    Layers, lowest first: the schema's defaults, preset, variant, file, ``extra``, ``overrides``.
    Searched values come last, when a trial starts (``at_point``).

    Args:
        source: A path, a name from ``list_sweeps()``, or a spec as a dict.
        overrides: Texts "a.b=value" with values in YAML, applied in order.
        extra: A partial spec that overrides the file.

    Returns:
        The spec with preset and variant applied, unless the search chooses them.

    Raises:
        SpecError: If the spec is wrong; names key, value and fix.

    Example:
        >>> spec = load_spec({"algorithm": "ppo", "env": "CartPole-v1"}, ["training.lr=1e-4"])
        >>> spec.name, spec.env, spec.training
        ('ppo-CartPole-v1', {'id': 'CartPole-v1'}, {'lr': 0.0001})
        >>> load_spec({"algorithm": "poo", "env": "CartPole-v1"})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rlssl.errors.UnknownNameError: unknown algorithm 'poo'; did you mean 'ppo'? Known: ...
    """
    document = _normalized(_read(source))
    saved = document.pop("provenance", None) is not None
    document.pop(EFFECTIVE, None)
    if saved:
        _refuse_layers_of_saved(overrides)
    document = merge(document, _normalized(plain(extra or {}, "")))
    document = _normalized(apply_overrides(document, overrides))
    document = with_data(_with_absolute_folders(document, Path()))
    refuse_secrets(document)
    _check_cheap_parts(document, saved=saved)
    spec = _build(document, expand=not saved)
    if not saved:
        layered = document if _searches_layers(spec.search) else _expanded(document)
        check_replaced(layered, dict(map(parse_override, overrides)))
    if not isinstance(source, Mapping) or spec.search or len(spec.seeds) > 1:
        _require_stop(spec)
    points = points_to_check(spec) if spec.search else []
    specs = check_points(spec, points) or [spec]
    if not saved:  # a run of an earlier version can be continued
        check_effects(specs)
    return spec


def _read(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(source, Mapping):
        document: dict[str, Any] = plain(source, "")
        return document
    if source == MATRIX:
        raise SpecError("'matrix' is not a sweep; run it with `rlssl matrix`.")
    if isinstance(source, str | Path):
        document = {"name": _folder_name(Path(source).stem), **read_document(source)}
        return _with_absolute_folders(document, Path(source).parent)
    raise SpecError(f"a spec must be a path, a name or a mapping; got {type(source).__name__}.")


def at_point(spec: Spec, point: Mapping[str, Any], seed: int) -> Spec:
    """The spec of one trial, without a search.

    Args:
        spec: The spec of a sweep.
        point: Dotted path -> value, for every path of ``spec.search``: one of ``points(spec)``
            and the values that Tune drew.
        seed: One of ``spec.seeds``.

    Raises:
        SpecError: If a path is missing or is not searched, or a value is not allowed.

    Example:
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}
        >>> sweep = load_spec({**document, "search": {"training.lr": {"grid": [0.1, 0.2]}}})
        >>> trial = at_point(sweep, {"training.lr": 0.2}, seed=7)
        >>> trial.training, trial.search, trial.seed
        ({'lr': 0.2}, {}, 7)
    """
    paths = {dimension.path for dimension in dimensions(spec.search)}
    if paths != set(point):
        raise SpecError(f"a point must give values to {sorted(paths)}; got {sorted(point)}.")
    document = dump(spec)
    objective = objective_of(spec)
    if spec.objective is None and objective != Objective():
        document["objective"] = {"metric": objective.metric, "mode": objective.mode}
    for key in ("search", "searcher", "scheduler", "confirm"):
        document.pop(key, None)
    for path, value in point.items():
        document = set_path(document, path, plain(value, path))
    document |= {"seed": seed, "seeds": [seed]}
    return _build(with_data(_normalized(document)), expand=_searches_layers(spec.search))


def check_points(spec: Spec, points: Iterable[Mapping[str, Any]]) -> list[Spec]:
    """Checks the spec at points of its search.

    Returns:
        The specs at the points.

    Raises:
        SpecError: If a value is not allowed; names the point, key, value and fix.
    """
    specs = []
    for point in points:
        try:
            specs.append(at_point(spec, point, spec.seeds[0]))
        except SpecError as error:
            where = ", ".join(f"{path} = {value!r}" for path, value in point.items())
            raise SpecError(f"search at {where}: {error}") from error
    return specs


def _normalized(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without empty sections, with a mapping for a bare environment id.

    Words of earlier versions get today's spelling.
    """
    result = {key: value for key, value in document.items() if value is not None}
    if isinstance(result.get("env"), str):
        result["env"] = {"id": result["env"]}
    if isinstance(result.get("training"), Mapping):
        result["training"] = {
            key: current_value(value) for key, value in result["training"].items()
        }
    return result


def _refuse_layers_of_saved(overrides: Sequence[str]) -> None:
    for text in overrides:
        path, _ = parse_override(text)
        if path in (*LAYERS, "algorithm"):
            raise SpecError(
                f"cannot set '{path}' on a resolved spec: every layer is applied already; "
                "start from the original file."
            )


def _load_plugins(modules: Sequence[str], folders: Sequence[str], *, must_exist: bool) -> None:
    from rlssl.plugins import add_to_import_path, load_plugins

    existing = [folder for folder in folders if Path(folder).is_dir()]
    if must_exist and len(existing) < len(folders):
        (missing, *_) = (folder for folder in folders if folder not in existing)
        raise SpecError(f"plugins_path: no folder '{missing}'; a path is relative to the spec's.")
    add_to_import_path(existing)
    load_plugins(modules)
    # The built-in losses and encoders register when these are imported.
    import rlssl.auxiliary
    import rlssl.networks  # noqa: F401


def _searches_layers(search: Any) -> bool:
    keys = (*LAYERS, "algorithm")
    return isinstance(search, Mapping) and any(key in search for key in keys)


def _with_absolute_folders(document: dict[str, Any], start: Path) -> dict[str, Any]:
    """The document with absolute paths under ``plugins_path``: processes run in other folders."""
    folders = document.get("plugins_path")
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        return document  # `parse` says what is wrong
    absolute = [str((start / Path(folder).expanduser()).resolve()) for folder in folders]
    if not all(Path(folder).is_dir() for folder in absolute):
        from rlssl.ray_internals.cluster import in_this_job  # Ray takes seconds to import

        absolute = [in_this_job(folder) for folder in absolute]
    return {**document, "plugins_path": absolute}


def _check_cheap_parts(document: dict[str, Any], *, saved: bool) -> None:
    """Makes the checks that need no RLlib first, because its import takes five seconds.

    No preset or variant can correct keys and types that are wrong in the file.
    """
    if isinstance(document.get("scheduler"), dict):
        refuse_unsupported("scheduler", document["scheduler"])
    sketch = parse(_with_seeds({"name": _default_name(document), "env": {}, **document}))
    _check_seeds(sketch)
    if not any(key in document for key in LAYERS) and not _searches_layers(sketch.search):
        check_form(sketch)
    _load_plugins(sketch.plugins, sketch.plugins_path, must_exist=not saved)
    check_names(sketch)
    if "id" in sketch.env and sketch.data is None:
        check_environment(sketch.env, partial=bool(sketch.search))


def _with_seeds(document: dict[str, Any]) -> dict[str, Any]:
    return {"seeds": [document["seed"]], **document} if "seed" in document else document


def _build(document: dict[str, Any], *, expand: bool) -> Spec:
    """Applies preset and variant if they are known, then checks everything."""
    # If the search chooses the preset or variant, `at_point` applies it, below the file as always.
    if not _searches_layers(document.get("search")):
        document = _without_null_losses(_expanded(document) if expand else document)
    spec = parse(_with_seeds({"name": _default_name(document), **document}))
    _check_seeds(spec)
    check(spec)
    if not spec.search:
        _check_builds(spec)
    return spec


def _expanded(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the settings of its preset, then of its variant, below its own."""
    layers: dict[str, Any] = {}
    for key in LAYERS:
        if key in document and isinstance(document.get("algorithm"), str):
            values = layer_values(key, document[key], document["algorithm"])
            layers = merge(layers, _normalized(plain(values, key)))
    return _normalized(merge(layers, document))


def _without_null_losses(document: dict[str, Any]) -> dict[str, Any]:
    """The document without losses that are null: null removes a loss of a lower layer."""
    losses = document.get("auxiliary")
    if not isinstance(losses, dict):
        return document
    given = {name: options for name, options in losses.items() if options is not None}
    return {**document, "auxiliary": given}


def _check_builds(spec: Spec) -> None:
    """Lets the algorithm's config check its values: ranges, sizes that do not fit."""
    config = build_config(spec)
    # Otherwise validate() would build the environment for every point of a search.
    config.adapt_to(None)
    try:
        config.validate()
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, SpecError) else SpecError(str(error)) from error


def _default_name(document: Mapping[str, Any]) -> str:
    env = document.get("env")
    env_id = env.get("id", "") if isinstance(env, dict) else ""
    return _folder_name(f"{document.get('algorithm', '')}-{env_id}")


def _folder_name(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=+@-]", "-", words)[:120]


def _check_seeds(spec: Spec) -> None:
    if len(set(spec.seeds)) < len(spec.seeds):
        raise SpecError(f"seeds must differ; got {spec.seeds}.")
    if spec.seed is not None and spec.seeds != [spec.seed]:
        raise SpecError(f"seed is for a single trial; got seed {spec.seed} and seeds {spec.seeds}.")


def _require_stop(spec: Spec) -> None:
    if spec.end is None:
        raise SpecError(
            f"stop.{spec.clock} is missing: a sweep must say when its trials end, for example "
            f"stop: {{{spec.clock}: 100_000}}."
        )


def resolved_dict(spec: Spec) -> dict[str, Any]:
    """The spec as plain data; ``load_spec`` turns it into the same spec again.

    ``provenance: {resolved: true}`` marks that preset and variant are applied already.

    Example:
        >>> spec = load_spec({"algorithm": "ppo", "env": "CartPole-v1"})
        >>> load_spec(resolved_dict(spec)) == spec
        True
    """
    return {**dump(spec), "provenance": {"resolved": True}}


def save_spec(
    spec: Spec,
    path: str | Path,
    provenance: Mapping[str, Any] | None = None,
    effective: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the resolved spec as YAML; ``load_spec`` reads it as the same spec.

    Args:
        spec: The spec to save.
        path: Path of the file; its folder must exist.
        provenance: Versions, commit and machine; written to the file, ignored when it is read.
        effective: The settings as used; written to the file, ignored when it is read.

    Returns:
        ``path``.
    """
    document = {**dump(spec), "provenance": {"resolved": True, **(provenance or {})}}
    if effective is not None:
        document[EFFECTIVE] = effective
    replace_text(Path(path), yaml_text(plain(document, "")))
    return Path(path)
