"""Auxiliary losses: one file a method, registered by name.

Importing this package registers the built-in losses without importing torch.
"""

from typing import TYPE_CHECKING, Any

from rlssl.registry import register_auxiliary_loss

if TYPE_CHECKING:
    from rlssl.auxiliary.base import AuxiliaryLoss, AuxiliaryLossConfig

__all__ = ["AuxiliaryLoss", "AuxiliaryLossConfig"]

register_auxiliary_loss("bisimulation", "rlssl.auxiliary.bisimulation:Bisimulation")
register_auxiliary_loss("curl", "rlssl.auxiliary.curl:CURL")
register_auxiliary_loss("deepmdp", "rlssl.auxiliary.deepmdp:DeepMDP")
register_auxiliary_loss("icm", "rlssl.auxiliary.icm:ICM")


def __getattr__(name: str) -> Any:
    """Imports a public name, and torch with it, on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlssl.auxiliary import base

    return getattr(base, name)
