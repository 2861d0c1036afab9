"""The choice between RMSProp and Adam."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from rlssl.algorithms.common.optimizers import EagerAdam, RMSProp
from rlssl.schedules import value_at


def make_optimizer(config: Any, parameter: nn.Parameter) -> Optimizer:
    """The optimizer that a config selects, for one flat parameter."""
    epsilon = config.optimizer_epsilon
    if config.optimizer == "adam":
        return EagerAdam([parameter], eps=epsilon)
    lr = value_at(config.lr, 0)
    return RMSProp([parameter], lr=lr, alpha=config.rmsprop_alpha, epsilon=epsilon)
