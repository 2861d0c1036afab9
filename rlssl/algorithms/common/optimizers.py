"""Adam and RMSProp without the overhead of torch.optim, which dominates for small networks."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Adam, Optimizer


class EagerAdam(Adam):
    """torch.optim.Adam with ``fused=True``, bit for bit, for parameters of one device and dtype.

    torch wraps these methods to exclude them from its compiler. For that it imports the compiler,
    which takes most of a second per process. It also sorts the tensors in every step.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], **options: Any) -> None:
        """``options``: lr, betas, eps, weight_decay."""
        super().__init__(parameters, fused=True, **options)

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As ``torch.optim.Adam.step``."""
        moved = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        if closure is not None or any(p not in self.state for group in moved for p in group):
            # torch's own step creates the moments at the first call.
            return _STEP(self, closure)
        for group, parameters in zip(self.param_groups, moved, strict=True):
            if parameters:
                self._step_group(group, parameters)
        return None

    def _step_group(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        steps = _count_step(states, is_whole_group=len(parameters) == len(group["params"]))
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def _count_step(
    states: list[dict[str, torch.Tensor]], *, is_whole_group: bool
) -> list[torch.Tensor]:
    """Counts a step; the parameters share one counter if a whole group has the same count."""
    count, is_shared = states[0]["step"], is_whole_group
    if is_shared and any(state["step"] is not count for state in states):
        is_shared = all(bool(state["step"] == count) for state in states)
    if is_shared:
        count += 1
    for state in states:
        state["step"] = count if is_shared else state["step"] + 1
    return [state["step"] for state in states]


_STEP = inspect.unwrap(Adam.step)
# Without this mark, torch.optim would wrap the step in a call of its profiler.
EagerAdam.step.hooked = True  # type: ignore[attr-defined]


class RMSProp(Optimizer):
    """RMSProp without momentum, epsilon inside the root.

    ``g = alpha * g + (1 - alpha) * d^2``, ``theta = theta - lr * d / sqrt(g + epsilon)``.
    torch's RMSprop adds epsilon outside the root. For an epsilon of 0.1 the steps differ a lot.

    Args:
        parameters: The parameters to optimize.
        lr: Learning rate; > 0.
        alpha: Share of ``g`` that is kept each step; in [0, 1).
        epsilon: > 0, squared units of the gradient.

    Source:
        Mnih et al. 2016, arXiv:1602.01783, section 4 and eq. S2, S3.
    """

    # See `EagerAdam`: torch's wrappers would import its compiler.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        alpha: float,
        epsilon: float,
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
