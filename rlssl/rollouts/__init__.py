"""Sampling: the vectorized EnvRunner, and RLlib's own as its fallback.

Names are imported on first use.
"""

from typing import TYPE_CHECKING

from rlssl.system.lazy_imports import attribute_loader

if TYPE_CHECKING:
    from rlssl.rollouts.stock_env_runner import StockEnvRunner, choose_env_runner
    from rlssl.rollouts.vector_env_runner import VectorEnvRunner

_DEFINED_IN = {
    "StockEnvRunner": "rlssl.rollouts.stock_env_runner",
    "VectorEnvRunner": "rlssl.rollouts.vector_env_runner",
    "choose_env_runner": "rlssl.rollouts.stock_env_runner",
}

__all__ = ["StockEnvRunner", "VectorEnvRunner", "choose_env_runner"]

__getattr__ = attribute_loader(__name__, _DEFINED_IN)
