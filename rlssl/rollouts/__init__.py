"""Sampling: the vectorised EnvRunner, the stock one as its fallback, and their connectors.

Names are imported on first use: the array helpers of `frame_stack` need no RLlib.
"""

import importlib
from typing import Any

_DEFINED_IN = {
    "AddStackedObservations": "connectors",
    "StackObservationsEnvToModule": "connectors",
    "StockEnvRunner": "stock_env_runner",
    "VectorEnvRunner": "vector_env_runner",
    "choose_env_runner": "stock_env_runner",
}

__all__ = sorted(_DEFINED_IN)


def __getattr__(name: str) -> Any:
    """Imports a public name from the module that defines it."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
