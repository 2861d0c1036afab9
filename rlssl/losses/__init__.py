"""Losses as pure functions: tensors in, per-sample losses out.

Nothing here knows a network, a configuration or Ray. Results are not reduced: masks, weights
and the mean are applied in one place, by the Learner.
"""

from rlssl.losses.advantage import generalized_advantage
from rlssl.losses.contrastive import bilinear_info_nce, info_nce
from rlssl.losses.dynamics import forward_dynamics_loss, inverse_dynamics_loss
from rlssl.losses.policy_gradient import clipped_surrogate, value_loss

__all__ = [
    "bilinear_info_nce",
    "clipped_surrogate",
    "forward_dynamics_loss",
    "generalized_advantage",
    "info_nce",
    "inverse_dynamics_loss",
    "value_loss",
]
