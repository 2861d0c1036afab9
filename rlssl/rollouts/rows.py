"""Row selection in batches whose columns may be nested."""

from collections.abc import Mapping
from typing import Any


def take_rows(value: Any, index: Any) -> Any:
    """``value[index]`` for every tensor or array inside mappings and tuples."""
    if isinstance(value, Mapping):
        return {key: take_rows(item, index) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(take_rows(item, index) for item in value)
    return value[index]
