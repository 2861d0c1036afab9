"""Layers of a spec: sets values at dotted paths, and merges mappings."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlssl.errors import SpecError
from rlssl.experiment.spec.dimension import KINDS
from rlssl.experiment.spec.yaml_reader import parse_yaml

#: Keys of a spec that select further settings, lowest layer first.
LAYERS = ("preset", "variant")


def parse_override(text: str) -> tuple[str, Any]:
    """Splits ``a.b=value`` and reads the value as YAML.

    Raises:
        SpecError: If the text has no '=' or an empty key.

    Example:
        >>> parse_override("training.lr=1e-4")
        ('training.lr', 0.0001)
    """
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not path or not all(path.split(".")):
        raise SpecError(f"cannot set {text!r}; write KEY=VALUE, for example training.lr=1e-4.")
    return path, parse_yaml(value, f"--set {text}")


def apply_overrides(document: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``document`` with each of the ``a.b=value`` texts applied, in order."""
    result = dict(document)
    for text in overrides:
        path, value = parse_override(text)
        result = set_path(result, path, value)
    return result


def set_path(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of ``document`` with another value at a dotted path; missing mappings are created.

    Raises:
        SpecError: If a value above the path is not a mapping.

    Example:
        >>> set_path({"algorithm": "ppo"}, "training.lr", 0.1)
        {'algorithm': 'ppo', 'training': {'lr': 0.1}}
        >>> set_path({}, "search.training.lr.grid", [0.1, 0.2])
        {'search': {'training.lr': {'grid': [0.1, 0.2]}}}
    """
    keys = path.split(".")
    if keys[0] == "search" and len(keys) > 1:
        if keys[-1] in KINDS:
            path, value = path.removesuffix(f".{keys[-1]}"), {keys[-1]: value}
        keys = ["search", path.removeprefix("search.")]  # the keys of `search` are dotted paths
    if keys[0] == "env" and isinstance(document.get("env"), str):
        document = {**document, "env": {"id": document["env"]}} if len(keys) > 1 else document
    return _set(document, keys, value, path)


def _set(node: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    if not keys:
        return value
    if node is None:
        node = {}
    if not isinstance(node, Mapping):
        above = path.removesuffix("." + ".".join(keys))
        raise SpecError(f"cannot set '{path}': '{above}' is {node!r}, not a mapping.")
    return {**node, keys[0]: _set(node.get(keys[0]), keys[1:], value, path)}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` overridden by ``over``: mappings are merged, other values are replaced.

    Options of one environment or encoder mean nothing to another. So if ``over`` names another
    one, the options in ``base`` are dropped.

    Example:
        >>> merge({"training": {"lr": 0.1, "gamma": 0.9}}, {"training": {"lr": 0.2}})
        {'training': {'lr': 0.2, 'gamma': 0.9}}
        >>> merge({"id": "memory/cue", "delay": 5}, {"id": "CartPole-v1"})
        {'id': 'CartPole-v1'}
    """
    if "id" in over and over["id"] != base.get("id", over["id"]):
        return dict(over)
    if "encoder" in over and over["encoder"] != base.get("encoder", over["encoder"]):
        base = {key: value for key, value in base.items() if key != "encoder_config"}
    result = dict(base)
    for key, value in over.items():
        below = base.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return result


def parse_loss(text: str) -> tuple[str, dict[str, Any]]:
    """Reads ``NAME[:key=value,...]``, the value of ``--aux``.

    Raises:
        SpecError: If an option is not of the form key=value.

    Example:
        >>> parse_loss("icm:variant=burda,coeff=0.5")
        ('icm', {'variant': 'burda', 'coeff': 0.5})
    """
    name, colon, options = text.partition(":")
    # A comma inside a value, as in a list, is not followed by a key and '='.
    parts = re.split(r",(?=\s*\w+\s*=)", options) if colon else []
    if wrong := [part for part in parts if "=" not in part]:
        raise SpecError(
            f"--aux {text}: {wrong[0]!r} is not of the form KEY=VALUE; write --aux icm:coeff=0.5."
        )
    return name, dict(parse_override(part) for part in parts)
