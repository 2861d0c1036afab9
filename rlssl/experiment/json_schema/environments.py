"""What a spec may say about environments: in ``env``, in ``evaluation.env`` and in a search."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from rlssl.environments.declared_options import declared_options
from rlssl.environments.make_calls import RESERVED_ENV_KEYS
from rlssl.errors import MissingExtraError
from rlssl.experiment.json_schema.parts import Schema, one_of_or_text, options_schema
from rlssl.registry import ENV_OPTIONS, ENVIRONMENTS

#: Keys of every environment that rlssl sets itself.
_NEVER_GIVEN = [key for key in RESERVED_ENV_KEYS if key != "id"]

#: The search cannot vary what rlssl sets itself.
REFUSED_PATHS = rf"^(evaluation\.)?env\.({'|'.join(_NEVER_GIVEN)})(\.|$)"


class DeclaredEnvironments:
    """The registered environments that declare their options, with a definition for each.

    The options of other environments are not checked.
    """

    def __init__(self) -> None:
        #: Name of a definition -> the options of an environment or a family.
        self.definitions: dict[str, Schema] = {}
        # Name of a definition -> a pattern of the ids that have these options.
        self._ids: dict[str, str] = {}
        for name, entry in ENVIRONMENTS.items():
            with contextlib.suppress(MissingExtraError):  # options that need a missing package
                if of := declared_options(entry):
                    own = {**options_schema(of), "title": f"options of {name}"}
                    own["properties"] |= {key: {} for key in ("id", *ENV_OPTIONS)}
                    own["additionalProperties"] = getattr(of, "takes_others", False)
                    definition = f"EnvOptions{len(self._ids)}"
                    self.definitions[definition] = own
                    self._ids[definition] = _served_by(name)

    def training(self) -> Schema:
        """``env``: an id, or a mapping with an id and options."""
        mapping = {**_mapping(), "required": ["id"]}
        mapping["allOf"] = [
            {"if": {"properties": {"id": {"pattern": ids}}}, "then": _reference(definition)}
            for definition, ids in self._ids.items()
        ]
        return {"anyOf": [*_env_id()["anyOf"], mapping]}

    def of_spec(self) -> Iterator[Schema]:
        """What the environment of a spec says about other sections of the spec.

        The options in ``evaluation.env`` and below ``env.`` and ``evaluation.env.`` in the search
        are those of the environment. A search over ids may have options of each of them.
        """
        own_id = _given("id", within=("evaluation", "env"))
        for definition, ids in self._ids.items():
            text = {"type": "string", "pattern": ids}
            is_trained = _given("env", {"anyOf": [text, _given("id", text)]})
            is_evaluated = {
                "anyOf": [
                    _given("id", text, within=("evaluation", "env")),
                    {"allOf": [is_trained, {"not": own_id}]},
                ]
            }
            yield {
                "if": is_evaluated,
                "then": _in_section("evaluation", {"properties": {"env": _reference(definition)}}),
            }
            for where, is_used in (("env", is_trained), ("evaluation.env", is_evaluated)):
                if paths := self._refused_paths(definition, where):
                    yield {"if": {"allOf": [is_used, _not_searched(where)]}, "then": paths}

    def _refused_paths(self, definition: str, where: str) -> Schema | None:
        """Refuses paths of the search that are no option; None if every option is allowed."""
        own = self.definitions[definition]
        if own["additionalProperties"]:
            return None
        known = "|".join(map(re.escape, own["properties"]))
        others = rf"^{re.escape(where)}\.(?!({known})(\.|$))"
        return _in_section("search", {"patternProperties": {others: False}})


def evaluation_env() -> Schema:
    """``evaluation.env``: options that differ from those in ``env``; `of_spec` has their names."""
    return _mapping()


def _mapping() -> Schema:
    properties: dict[str, Any] = {"id": _env_id(), **{name: {} for name in ENV_OPTIONS}}
    properties |= dict.fromkeys(_NEVER_GIVEN, False)
    return {"type": "object", "properties": properties}


def _env_id() -> Schema:
    """Any text; an editor suggests the ids that need no import of a suite."""
    import gymnasium as gym

    names = {name for name in ENVIRONMENTS if not name.endswith("*")} | set(gym.registry)
    return one_of_or_text(sorted(names))


def _reference(definition: str) -> Schema:
    return {"$ref": f"#/$defs/{definition}"}


def _in_section(name: str, schema: Schema) -> Schema:
    return {"properties": {name: schema}}


def _given(key: str, value: Schema | None = None, within: tuple[str, ...] = ()) -> Schema:
    """Is met by a mapping that has a key, with such a value; ``within``: sections around it."""
    schema: Schema = {"type": "object", "required": [key]}
    if value is not None:
        schema["properties"] = {key: value}
    return _given(within[0], _given(key, value, within[1:])) if within else schema


def _not_searched(where: str) -> Schema:
    """Is met by a spec whose search does not vary which environment it is."""
    places = {"env", where}
    varied = [_given(path) for place in sorted(places) for path in (place, f"{place}.id")]
    return {"not": _given("search", {"anyOf": varied})}


def _served_by(name: str) -> str:
    """A pattern of the ids that an entry serves: longer families and exact names win."""
    if not name.endswith("*"):
        return f"^{re.escape(name)}$"
    begin = name[:-1]
    others = [
        f"{re.escape(one.rstrip('*'))}{'' if one.endswith('*') else '$'}"
        for one in sorted(ENVIRONMENTS)
        if one.startswith(begin) and one != name
    ]
    refused = f"(?!{'|'.join(others)})" if others else ""
    return f"^{refused}{re.escape(begin)}"
