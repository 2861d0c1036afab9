"""Auxiliary losses: one file a method, registered by name."""

from rlssl.auxiliary.base import AuxiliaryLoss, AuxiliaryLossConfig
from rlssl.registry import register_auxiliary_loss

register_auxiliary_loss("curl", "rlssl.auxiliary.curl:CURL")
register_auxiliary_loss("icm", "rlssl.auxiliary.icm:ICM")

__all__ = ["AuxiliaryLoss", "AuxiliaryLossConfig"]
