"""Imports on first use: the public names of a package, and dm_control's tasks."""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: RLlib imports this package for one of its environments, which costs 0.3 s in every process.
LAZY = "dm_control.suite"


class _LazyImports(importlib.abc.MetaPathFinder):
    """Finds `LAZY` as Python does, but executes it when its first attribute is read."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of `LAZY`; None for everything else."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == LAZY else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Lets this process import `LAZY` lazily, unless it is already imported; idempotent."""
    if not any(isinstance(finder, _LazyImports) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LazyImports())


def attribute_loader(package: str, defined_in: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a package's ``__getattr__``, which imports a public name on first use.

    Args:
        package: The package's ``__name__``.
        defined_in: Public name -> the module that defines it.

    Example:
        >>> load = attribute_loader("some_package", {"sqrt": "math"})
        >>> load("sqrt")(9.0)
        3.0
    """

    def load(name: str) -> Any:
        if name not in defined_in:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(defined_in[name]), name)

    return load
