"""The original's RMSProp, and the choice between it and Adam."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from rlssl.algorithms.common.optimizers import EagerAdam, RMSProp

#: What `training.optimizer` may be.
OPTIMIZERS = ("rmsprop", "adam")

#: Epsilon where the config does not say.
DEFAULT_EPSILON = {"rmsprop": 1e-5, "adam": 1e-5}


def make_optimizer(config: Any, parameter: nn.Parameter) -> Optimizer:
    """The optimiser that a config asks for, on one flat parameter."""
    epsilon = config.optimizer_epsilon
    if epsilon is None:
        epsilon = DEFAULT_EPSILON[config.optimizer]
    if config.optimizer == "adam":
        return EagerAdam([parameter], eps=epsilon)
    return RMSProp([parameter], alpha=config.rmsprop_alpha, epsilon=epsilon)
