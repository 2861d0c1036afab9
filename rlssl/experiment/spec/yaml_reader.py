"""Reads spec files: YAML 1.2 scalars, sweeps by name, and checks that all is plain data."""

import importlib.resources
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

from rlssl.errors import SpecError, suggest

_MAX_DEPTH = 20
# A few aliases of aliases in a YAML file can stand for more values than fit in memory.
_MAX_VALUES = 20_000
_MAX_INT = 2**63

#: The file of `rlssl matrix`. It lies in the folder of the sweeps, but is not a sweep.
MATRIX = "matrix"


def _number(text: str) -> int | float:
    """Reads 1e-4 as a number and 4e5 as a whole number; YAML 1.1 reads both as text."""
    value = float(text.replace("_", ""))
    whole = "e" in text.lower() and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def _scalar(parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        try:
            return parse(text)
        except (KeyError, ValueError):
            raise ConstructorError(
                None, None, f"cannot read {text!r} as {node.tag}", node.start_mark
            ) from None

    return construct


class _Loader(yaml.SafeLoader):
    """Scalars as in YAML 1.2: ``no`` and 2026-01-01 are text. A repeated key is an error."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        "tag:yaml.org,2002:null": yaml.SafeLoader.construct_yaml_null,
        "tag:yaml.org,2002:bool": _scalar(
            lambda text: {"true": True, "false": False}[text.lower()]
        ),
        "tag:yaml.org,2002:int": _scalar(int),
        "tag:yaml.org,2002:float": _scalar(
            lambda text: _number(re.sub(r"(?i)\.inf$", "inf", text))
        ),
        "tag:yaml.org,2002:str": yaml.SafeLoader.construct_yaml_str,
        "tag:yaml.org,2002:seq": yaml.SafeLoader.construct_yaml_seq,
        "tag:yaml.org,2002:map": yaml.SafeLoader.construct_yaml_map,
        None: yaml.SafeLoader.construct_undefined,
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Like the base class's method, but a repeated key is an error."""
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key_node, _ in node.value:
                key = key_node.value
                if isinstance(key_node, yaml.ScalarNode) and key in seen:
                    raise ConstructorError(
                        None, None, f"the key '{key}' is given twice", key_node.start_mark
                    )
                if isinstance(key_node, yaml.ScalarNode):
                    seen.add(key)
        return super().construct_mapping(node, deep)


_WHOLE = "(0|[1-9][0-9_]*)"
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", rf"[-+]?{_WHOLE}", "-+0123456789"),
    ("float", rf"[-+]?({_WHOLE}\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", rf"[-+]?{_WHOLE}[eE][-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML document, as plain data.

    Args:
        text: A YAML document.
        where: Name of the source, for error messages.

    Raises:
        SpecError: If the text is not YAML, repeats a key, or has a tag that is not plain data.

    Example:
        >>> parse_yaml("{lr: 1e-4, env_steps: 4e5, shared: no}", "--set")
        {'lr': 0.0001, 'env_steps': 400000, 'shared': 'no'}
        >>> parse_yaml("{lr: 1, lr: 2}", "--set")
        Traceback (most recent call last):
        rlssl.errors.SpecError: --set, line 1: the key 'lr' is given twice.
    """
    try:
        value = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise SpecError(f"{where}{line}: {error.problem or error.context}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{where}: cannot be read as YAML: {error}.") from error
    return plain(value, "")


def plain(value: Any, path: str) -> Any:
    """A copy of ``value`` that contains only dicts with text keys, lists, text and numbers.

    Raises:
        SpecError: If the value contains anything else, which could not be saved; names its path.
    """
    return _plain(value, path, 0, itertools.count(1))


def _plain(value: Any, path: str, depth: int, counter: Iterator[int]) -> Any:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a numpy scalar, as Tune's samplers draw
    if depth > _MAX_DEPTH:
        raise SpecError(f"{path[:60]}...: nested deeper than {_MAX_DEPTH} levels.")
    if next(counter) > _MAX_VALUES:
        raise SpecError(f"{path[:60]}...: a spec may have at most {_MAX_VALUES} values.")
    if isinstance(value, Mapping):
        return {
            _plain_key(key, path): _plain(inner, f"{path}.{key}".lstrip("."), depth + 1, counter)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{i}]", depth + 1, counter) for i, item in enumerate(value)]
    if isinstance(value, str | Path):
        return _plain_text(str(value), path)
    if value is None or isinstance(value, bool | int | float):
        return _plain_number(value, path)
    raise SpecError(
        f"{path or 'a spec'} must be plain data (numbers, text, lists, mappings); "
        f"got {type(value).__name__}."
    )


def _plain_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise SpecError(f"keys must be text; got {key!r} in {path or 'the spec'}; quote it.")
    return _plain_text(key, path)


def _plain_text(text: str, path: str) -> str:
    """Text that can be written to a file: without half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        where = path or "the spec"
        raise SpecError(f"{where} has text that is not valid Unicode: {text!r}.") from error
    return str(text)


def _plain_number(value: Any, path: str) -> Any:
    if isinstance(value, int) and abs(value) >= _MAX_INT:
        raise SpecError(f"{path or 'a number'} must be below 2**63.")
    if isinstance(value, float) and value != value:
        raise SpecError(f"{path or 'a number'} must be a number; got nan.")
    return value


def list_sweeps() -> list[str]:
    """Sorted names of the sweeps that come with rlssl; ``load_spec`` takes each.

    Example:
        >>> "quickstart" in list_sweeps()
        True
    """
    try:
        folder = importlib.resources.files("rlssl_tune_configs")
    except ModuleNotFoundError:  # rlssl is on the path, but not installed: sweeps have no names
        return []
    files = (entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return sorted(name for file in files if (name := file.removesuffix(".yaml")) != MATRIX)


def read_document(source: str | Path) -> dict[str, Any]:
    """The mapping in a spec file.

    Args:
        source: A path, or a name from ``list_sweeps()``.

    Raises:
        SpecError: If there is no such file or sweep, or if it is not a mapping.
    """
    text, where = _read_text(source)
    document = parse_yaml(text, where)
    if not isinstance(document, dict):
        raise SpecError(f"{where}: a spec must be a mapping of keys; got {document!r:.60}.")
    return document


def _read_text(source: str | Path) -> tuple[str, str]:
    try:
        path = Path(source)
        if path.is_file():
            return path.read_text(encoding="utf-8"), str(path)
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read the spec {str(source)!r}: {error}.") from error
    if isinstance(source, Path) or source.endswith((".yaml", ".yml")) or "/" in source:
        raise SpecError(
            f"no spec file {str(source)!r}; check the path, or give one of `list sweeps`."
        )
    sweeps = list_sweeps()
    if source not in (*sweeps, MATRIX):
        files = sorted(path.name for path in Path().glob("*.y*ml"))
        named_so = [file for file in files if Path(file).stem == source]
        end = f"; did you mean '{named_so[0]}'?" if named_so else suggest(source, sweeps + files)
        raise SpecError(f"unknown sweep {source!r}{end}")
    resource = importlib.resources.files("rlssl_tune_configs") / f"{source}.yaml"
    return resource.read_text(encoding="utf-8"), f"sweep '{source}'"
