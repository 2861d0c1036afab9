"""The original's RMSProp, and the choice between it and Adam."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rlssl.algorithms.eager_adam import EagerAdam

#: What `training.optimizer` may be.
OPTIMIZERS = ("rmsprop", "adam")

#: Epsilon where the config does not say.
DEFAULT_EPSILON = {"rmsprop": 1e-5, "adam": 1e-5}


class RMSProp(Optimizer):
    """RMSProp without momentum, epsilon inside the root.

    ``g = alpha * g + (1 - alpha) * d^2``, ``theta = theta - lr * d / sqrt(g + epsilon)``.
    torch's RMSprop adds epsilon to the root, which for an epsilon of 0.1 is another algorithm.

    Args:
        parameters: What is optimised.
        lr: Learning rate; > 0.
        alpha: How much of ``g`` is kept each step; in [0, 1).
        epsilon: > 0, squared units of the gradient.

    Source:
        Mnih et al. 2016, arXiv:1602.01783, section 4 and eq. S2, S3.
    """

    # torch wraps these to keep its compiler away, and imports the compiler for it.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float = 7e-4,
        alpha: float = 0.99,
        epsilon: float = 0.1,
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "alpha": alpha, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step for every parameter with a gradient."""
        del closure
        for group in self.param_groups:
            alpha = group["alpha"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["square_mean"] = torch.zeros_like(parameter)
                mean = state["square_mean"]
                mean.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
                root = (mean + group["epsilon"]).sqrt_()
                parameter.addcdiv_(gradient, root, value=-group["lr"])
        return None


def make_optimizer(config: Any, parameter: nn.Parameter) -> Optimizer:
    """The optimiser that a config asks for, on one flat parameter."""
    epsilon = config.optimizer_epsilon
    if epsilon is None:
        epsilon = DEFAULT_EPSILON[config.optimizer]
    if config.optimizer == "adam":
        return EagerAdam([parameter], eps=epsilon)
    return RMSProp([parameter], alpha=config.rmsprop_alpha, epsilon=epsilon)
