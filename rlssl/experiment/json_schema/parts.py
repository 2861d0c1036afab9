"""Small parts of the schema: types, options of dataclasses, names with options."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter

from rlssl.system.annotations.comments import field_comments
from rlssl.system.annotations.types import field_types

Schema = dict[str, Any]

NULL: Schema = {"type": "null"}
#: Numbers as 80_000, which rlssl reads as numbers, and editors as text.
_UNDERSCORED = r"^[-+]?[0-9]+(_[0-9]+)+(\.[0-9_]*)?([eE][-+]?[0-9]+)?$"


def object_of(properties: Mapping[str, Any], **more: Any) -> Schema:
    """A mapping with these keys and no others.

    Example:
        >>> object_of({})
        {'type': 'object', 'properties': {}, 'additionalProperties': False}
    """
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        **more,
    }


def nullable(schema: Schema) -> Schema:
    """The schema, or null.

    Example:
        >>> nullable({"type": "boolean"})
        {'anyOf': [{'type': 'boolean'}, {'type': 'null'}]}
    """
    given = dict(schema)
    outside: Schema = {}
    for key in ("description", "default"):
        if key in given:
            outside[key] = given.pop(key)
    if NULL in given.get("anyOf", ()):
        return schema
    return {"anyOf": [given, NULL], **outside}


def type_schema(annotation: Any) -> Schema:
    """The schema of a type annotation; anything for a type that JSON does not have.

    Example:
        >>> type_schema(float | None)
        {'anyOf': [{'type': 'number'}, {'type': 'null'}]}
    """
    try:
        return without_titles(TypeAdapter(annotation).json_schema())
    except PydanticSchemaGenerationError:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
        return without_titles(adapter.json_schema())


def options_schema(of: type) -> Schema:
    """The schema of a dataclass of options: types, defaults, and comments as descriptions.

    Example:
        >>> from rlssl.auxiliary.bonus_options import BonusConfig
        >>> options_schema(BonusConfig)["properties"]["stream_gamma"]["default"]
        0.99
    """
    comments, types = field_comments(of), field_types(of)
    properties = {}
    for field in dataclasses.fields(of):
        schema = type_schema(types[field.name])
        if field.name in comments:
            schema["description"] = comments[field.name]
        if field.default not in (dataclasses.MISSING, None):
            schema["default"] = field.default
        properties[field.name] = schema
    return object_of(properties)


def named_options(options: Mapping[str, Schema]) -> Schema:
    """A list of names, or of mappings of one name to its options.

    Args:
        options: Name -> schema of its options.
    """
    one = object_of({name: nullable(of) for name, of in options.items()})
    one |= {"minProperties": 1, "maxProperties": 1}
    return {"type": "array", "items": {"anyOf": [{"enum": list(options)}, one]}}


def one_of_or_text(names: Iterable[str]) -> Schema:
    """Any text; an editor suggests the names.

    Example:
        >>> one_of_or_text(["a"])
        {'anyOf': [{'enum': ['a']}, {'type': 'string'}]}
    """
    return {"anyOf": [{"enum": list(names)}, {"type": "string"}]}


def without_titles(schema: Any) -> Any:
    """The schema without pydantic's titles, which repeat the names of keys."""
    if isinstance(schema, list):
        return [without_titles(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_titles(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }


def with_underscores(schema: Any) -> Any:
    """The schema, in which every number may also be text with underscores between its digits.

    Example:
        >>> sorted(with_underscores({"type": "integer", "minimum": 1}))
        ['minimum', 'pattern', 'type']
    """
    if isinstance(schema, list):
        return [with_underscores(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: with_underscores(value) for key, value in schema.items()}
    if changed.get("type") in ("integer", "number"):
        changed |= {"type": [changed["type"], "string"], "pattern": _UNDERSCORED}
    return changed
