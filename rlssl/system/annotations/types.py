"""Checks plain data against the type annotations of builders, dataclasses and encoders."""

import dataclasses
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from rlssl.errors import SpecError, did_you_mean, suggest


def check_arguments(where: str, given: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Checks keys and types of ``given`` against annotations.

    Args:
        where: Dotted path of ``given`` in the spec.
        given: Plain data.
        hints: Name -> annotation. Other names are errors, unless ``hints`` contains "**".

    Raises:
        SpecError: If a key is unknown (with a suggestion), or a value has the wrong type.
    """
    for key, value in given.items():
        if key in hints:
            check_type(f"{where}.{key}", value, hints[key])
        elif "**" not in hints:
            close = suggest(key, hints, f"{where}.")
            raise SpecError(f"unknown key '{where}.{key}' in the spec{close}")


def check_type(path: str, value: Any, annotation: Any) -> None:
    """Checks that ``value`` has the annotated type; the only conversion is from int to float.

    Raises:
        SpecError: If the type is wrong; names path, value and the expected type.
    """
    try:
        _adapter(annotation).validate_json(json.dumps(value), strict=True)
    except (TypeError, ValidationError) as error:  # TypeError: not plain data
        guess = did_you_mean(value, _choices(annotation)) if isinstance(value, str) else ""
        words = f"{path} must be {describe(annotation)}; got {value!r}{guess or '.'}"
        raise SpecError(words) from error


def _choices(annotation: Any) -> list[str]:
    """The words of an annotation that allows some words only."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return [one for one in arguments if isinstance(one, str)]
    return [word for argument in arguments for word in _choices(argument)]


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
    """An annotation in words.

    Example:
        >>> describe(float | list[list[float]])
        'a number or a list of [env_steps, value]'
        >>> describe(int | None)
        'a whole number or null'
    """
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
    """Argument -> annotation of an encoder, without its first; "**" if it takes any argument."""
    parameters = list(inspect.signature(encoder).parameters.values())[1:]
    annotated = encoder.__init__ if isinstance(encoder, type) else encoder  # type: ignore[misc]
    hints = typing.get_type_hints(annotated)
    return {"**" if p.kind is p.VAR_KEYWORD else p.name: hints.get(p.name, Any) for p in parameters}
