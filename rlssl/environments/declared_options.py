"""The options that a registered environment declares as a dataclass, ``register_env(options=)``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlssl.environments.make_calls import RESERVED_ENV_KEYS
from rlssl.errors import SpecError, suggest
from rlssl.registry import ENV_OPTIONS, EnvEntry


def declared_options(entry: EnvEntry | None) -> type | None:
    """The dataclass of an environment's options; None if it declares none.

    Raises:
        MissingExtraError: Its module needs a package that is not installed.
        SpecError: It is no dataclass, or a field has a name that means something else.
    """
    of: Any = None if entry is None else entry.resolve("options")
    if entry is None or of is None:
        return None
    where = f"options of environment {entry.name!r}"
    if not (isinstance(of, type) and dataclasses.is_dataclass(of)):
        raise SpecError(f"{where} must be a dataclass; got {of!r}.")
    for field in dataclasses.fields(of):
        if field.name in (*RESERVED_ENV_KEYS, *ENV_OPTIONS):
            raise SpecError(
                f"{where}: {field.name!r} has a meaning for every environment; rename the field."
            )
    return of


def with_declared_options(
    entry: EnvEntry | None, config: dict[str, Any], *, partial: bool = False
) -> dict[str, Any]:
    """The config with the default of every declared option that it lacks.

    Args:
        entry: The environment; the config of one that declares no options is returned as it is.
        config: ``id``, the user's options, and perhaps the other keys that ``make`` gets; without
            options that wrap any environment.
        partial: Whether a search sets more options: only names and types are checked, and no
            defaults are added.

    Raises:
        SpecError: An option is unknown (with a suggestion) or missing, or a value is wrong.

    Example:
        >>> @dataclasses.dataclass
        ... class Options:
        ...     length: int = 10
        >>> entry = EnvEntry("lab/Corridor", dict, options=Options)
        >>> with_declared_options(entry, {"id": "lab/Corridor"})
        {'id': 'lab/Corridor', 'length': 10}
        >>> with_declared_options(entry, {"id": "lab/Corridor", "lengths": 12})
        Traceback (most recent call last):
        rlssl.errors.SpecError: unknown option env.lengths of lab/Corridor; did you mean 'length'?
    """
    of = declared_options(entry)
    if of is None:
        return config
    from rlssl.system.annotations.types import check_type, field_types

    types = field_types(of)
    given = {key: value for key, value in config.items() if key in types}
    for key in config.keys() - {*types, *RESERVED_ENV_KEYS}:
        if not getattr(of, "takes_others", False):
            raise SpecError(f"unknown option env.{key} of {config['id']}{suggest(key, types)}")
    for key, value in given.items():
        check_type(f"env.{key}", value, types[key])
    return config if partial else {**config, **_values(of, given, config["id"])}


def _values(of: type[Any], given: Mapping[str, Any], env_id: str) -> dict[str, Any]:
    """The value of every option.

    Raises:
        SpecError: An option without a default is not given, or ``__post_init__`` refuses a value.
    """
    for field in dataclasses.fields(of):
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if not has_default and field.name not in given:
            raise SpecError(f"environment {env_id!r} needs env.{field.name}: it has no default.")
    try:
        options = of(**given)
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(f"environment {env_id!r}: {error}") from error
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(of)}
