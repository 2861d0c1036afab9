"""Rules about the source code that no linter checks."""

import ast
import importlib
import inspect
import pkgutil
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from rlssl import ray_internals

ROOT = Path(__file__).resolve().parents[1]

#: Folders of code that users run, and those whose sizes are watched.
SHIPPED = ("rlssl", "envs", "tune_configs")
SIZED = ("rlssl", "envs", "tests", "benchmarks")

#: The only folder that may name private parts of Ray and RLlib.
RAY_INTERNALS = ROOT / "rlssl" / "ray_internals"

#: Private names of other packages that rlssl reads -> the folder in which it does.
TORCH_NAMES = {
    "_C": "rlssl/networks/layers",
    "_are_functorch_transforms_active": "rlssl/networks/layers",
    "_backward_hooks": "rlssl/networks/layers",
    "_backward_pre_hooks": "rlssl/networks/layers",
    "_forward_hooks": "rlssl/networks/layers",
    "_forward_pre_hooks": "rlssl/networks/layers",
    "_linear_pointwise": "rlssl/networks/layers",
    "_modules": "rlssl/networks/layers",
    "_foreach_lerp_": "rlssl/networks",
    "_foreach_copy_": "rlssl/algorithms",
    "_foreach_mul_": "rlssl/algorithms",
    "_foreach_norm": "rlssl/algorithms",
    "_fused_adam_": "rlssl/algorithms",
}
GYMNASIUM_NAMES = {"_add_info": "rlssl/rollouts", "_env_obs": "rlssl/rollouts"}
#: `os._exit` is public and documented, in spite of its name.
STANDARD_LIBRARY_NAMES = {"_exit": "rlssl"}

MAX_FUNCTION_LINES = 50
MAX_MODULE_LINES = 500
MAX_MODULES_A_FOLDER = 16
MAX_MEDIAN_MODULE_LINES = 150


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def imported(tree: ast.Module) -> Iterator[str]:
    """The dotted path of everything that a module imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# Private names of other packages.


def private_names_of_ray(tree: ast.Module) -> list[str]:
    """What a module names of Ray's private parts, in imports and in strings (scripts, patches)."""
    names = [path for path in imported(tree) if path.partition(".")[0] == "ray"]
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    names += [path for text in strings for path in re.findall(r"\bray(?:\.\w+)+", text)]
    return [path for path in names if any(part.startswith("_") for part in path.split("."))]


def test_private_parts_of_ray_are_named_in_ray_internals_only() -> None:
    found = {
        named(path): private_names_of_ray(parsed(path))
        for path in python_files(*SHIPPED)
        if RAY_INTERNALS not in path.parents
    }
    assert {path: names for path, names in found.items() if names} == {}


def private_attributes_read(tree: ast.Module) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and is_private(node.attr)
    }


def names_defined(tree: ast.Module) -> set[str]:
    """Names of functions and classes, and of variables and attributes that are assigned."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, definitions):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def listed_in(module: ModuleType) -> set[str]:
    """The private names in the tables of a module: its constants in capitals."""
    tables = [value for name, value in inspect.getmembers(module) if name.isupper()]
    listed: set[str] = set()
    for table in tables:
        values = [table] if isinstance(table, str) else table
        listed |= set(values.values() if isinstance(values, dict) else values)
    return {name for name in listed if is_private(name)}


def foreign_private_attributes() -> dict[str, set[str]]:
    """Private attributes that rlssl reads and defines nowhere -> the modules that read them."""
    files = python_files("rlssl")
    own = set().union(*(names_defined(parsed(path)) for path in files))
    readers: dict[str, set[str]] = {}
    for path in files:
        for name in private_attributes_read(parsed(path)) - own:
            readers.setdefault(name, set()).add(named(path))
    return readers


def test_every_private_attribute_of_another_package_is_listed() -> None:
    modules = [
        importlib.import_module(f"{ray_internals.__name__}.{module.name}")
        for module in pkgutil.iter_modules(ray_internals.__path__)
    ]
    of_ray = set().union(*map(listed_in, modules))
    of_others = TORCH_NAMES | GYMNASIUM_NAMES | STANDARD_LIBRARY_NAMES
    readers = foreign_private_attributes()
    unlisted = {name: paths for name, paths in readers.items() if name not in of_ray}
    assert unlisted.keys() == of_others.keys()
    for name, paths in unlisted.items():
        assert all(path.startswith(f"{of_others[name]}/") for path in paths), name


# Layers.


def test_losses_import_torch_and_losses_only() -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    others = [
        f"{named(path)} imports {name}"
        for path in python_files("rlssl/losses")
        for name in imported(parsed(path))
        if name.partition(".")[0] not in allowed and not f"{name}.".startswith("rlssl.losses.")
    ]
    assert others == []


# Sizes.


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without those of the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def sizes_of_functions() -> dict[str, int]:
    """Of functions of one name in a module, the longest."""
    sizes: dict[str, int] = {}
    for path in python_files(*SIZED):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                key = f"{named(path)}:{node.name}"
                sizes[key] = max(sizes.get(key, 0), function_lines(node))
    return sizes


def sizes_of_modules() -> dict[str, int]:
    return {named(path): lines_of(path) for path in python_files(*SIZED)}


def sizes_of_folders() -> dict[str, int]:
    """Modules in each folder; ``__init__.py`` does not count, since it is the folder itself."""
    return Counter(
        named(path.parent) for path in python_files(*SIZED) if path.name != "__init__.py"
    )


def test_functions_modules_and_folders_are_small() -> None:
    too_large = [
        f"{name}: {size} (at most {limit})"
        for sizes, limit in (
            (sizes_of_functions(), MAX_FUNCTION_LINES),
            (sizes_of_modules(), MAX_MODULE_LINES),
            (sizes_of_folders(), MAX_MODULES_A_FOLDER),
        )
        for name, size in sizes.items()
        if size > limit
    ]
    assert too_large == []


def test_the_median_module_is_short() -> None:
    lines = [lines_of(path) for path in python_files("rlssl")]
    assert statistics.median(lines) < MAX_MEDIAN_MODULE_LINES


# Names.


def test_a_dotted_path_means_a_module_or_a_name_of_its_package() -> None:
    # Else `from rlssl.room import thing` depends on whether `rlssl.room.thing` was imported before.
    ambiguous = []
    for path in ROOT.glob("rlssl/**/__init__.py"):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        modules = {one.stem for one in path.parent.glob("*.py")}
        modules |= {one.parent.name for one in path.parent.glob("*/__init__.py")}
        ambiguous += [
            one
            for one in imported(parsed(path))
            if one.rpartition(".")[2] in modules and one.rpartition(".")[0] != package
        ]
    assert ambiguous == []
