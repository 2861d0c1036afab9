"""Everything public shows how it is used; `make test` runs the examples."""

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest

#: Public modules, and names of theirs that need no example: they are modules and constants.
PUBLIC = ("rlssl", "rlssl.auxiliary", "rlssl.losses", "rlssl.replay")


def public_names() -> Iterator[tuple[str, str]]:
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            is_constant = isinstance(getattr(module, name), ModuleType | str)
            if not is_constant:
                yield module.__name__, name


@pytest.mark.parametrize(("module", "name"), [*public_names()])
def test_public_names_have_an_example(module: str, name: str) -> None:
    doc = getattr(importlib.import_module(module), name).__doc__ or ""
    assert ">>> " in doc, f"{module}.{name} needs an Example of three to six lines"
