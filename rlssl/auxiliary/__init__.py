"""Auxiliary losses: one file a method, registered by name.

Importing this package registers the built-in losses without importing torch.
"""

from typing import TYPE_CHECKING

from rlssl.registry import register_auxiliary_loss
from rlssl.system.lazy_imports import attribute_loader

if TYPE_CHECKING:
    from rlssl.auxiliary.base import AuxiliaryLoss, AuxiliaryLossConfig

__all__ = ["AuxiliaryLoss", "AuxiliaryLossConfig"]

register_auxiliary_loss("bisimulation", "rlssl.auxiliary.bisimulation:Bisimulation")
register_auxiliary_loss("curl", "rlssl.auxiliary.curl:CURL")
register_auxiliary_loss("deepmdp", "rlssl.auxiliary.deepmdp:DeepMDP")
register_auxiliary_loss("icm", "rlssl.auxiliary.icm:ICM")

__getattr__ = attribute_loader(__name__, dict.fromkeys(__all__, "rlssl.auxiliary.base"))
