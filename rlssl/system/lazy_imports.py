"""Loads dm_control's tasks when they are used, and not with RLlib."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

#: RLlib imports it for an environment of its own: 0.3 s in every process, used or not.
LAZY = "dm_control.suite"


class _LazyImports(importlib.abc.MetaPathFinder):
    """Finds `LAZY` as Python does; it is executed at the first look into it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of `LAZY`; None for everything else."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == LAZY else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Has this process load `LAZY` lazily, unless it is loaded; idempotent."""
    if not any(isinstance(finder, _LazyImports) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LazyImports())
