"""Adam and RMSProp without the overhead of torch.optim, which dominates for small networks."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


def as_laid_out(parameter: Tensor, value: Tensor | None) -> Tensor | None:
    """The value in the parameter's memory format: fused optimizers pair elements by address.

    Example:
        >>> weight = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
        >>> as_laid_out(weight, torch.ones(2, 3, 4, 4)).stride() == weight.stride()
        True
    """
    if value is None or value.stride() == parameter.stride():
        return value
    with torch.no_grad():
        return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def lay_out_state(optimizer: Optimizer) -> None:
    """Lays out what an optimizer keeps for each element of a parameter as the parameter itself.

    Pickles of numpy 2.0 to 2.2 drop the memory format of arrays, for example channels-last.

    Raises:
        ValueError: If a parameter has gaps or overlaps in memory, so that this is impossible.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = laid_out = as_laid_out(parameter, value)
                if laid_out is not None and laid_out.stride() != parameter.stride():
                    raise ValueError(
                        f"a parameter of shape {tuple(parameter.shape)} has strides "
                        f"{parameter.stride()}, with gaps or overlaps in memory, which optimizers "
                        "do not support; give it a copy: nn.Parameter(parameter.detach().clone())."
                    )


#: Options of torch's Adam that only its other implementations have.
_NOT_FUSED = ("foreach", "capturable", "differentiable")


class EagerAdam(Adam):
    """torch.optim.Adam with ``fused=True``, bit for bit, for parameters of one device and dtype.

    torch wraps these methods to exclude them from its compiler. For that it imports the compiler,
    which takes most of a second per process. It also sorts the tensors in every step.
    """

    def __init__(self, parameters: Iterable[Any], **options: Any) -> None:
        """``options``: lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay."""
        super().__init__(parameters, fused=True, **options)

    #: Scalar on the parameters' device; 1 skips a step. torch's Adam has the same attribute.
    found_inf: Tensor | None = None

    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As ``torch.optim.Adam.add_param_group``.

        Raises:
            ValueError: If the group asks for an implementation of Adam that is not the fused one.
        """
        for key in _NOT_FUSED:
            if param_group.get(key, self.defaults[key]):
                raise ValueError(f"EagerAdam is fused: it does not support {key}=True; remove it.")
        if not param_group.get("fused", True):
            raise ValueError("EagerAdam is fused: it does not support fused=False; remove it.")
        _ADD_PARAM_GROUP(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        """As ``torch.optim.Adam.state_dict``, with a separate step count for each parameter."""
        found: dict[str, Any] = _STATE_DICT(self)
        # Parameters share a count here. torch's Adam would count it once for each of them.
        states = {
            key: {**state, "step": state["step"].clone()} for key, state in found["state"].items()
        }
        return {**found, "state": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As ``torch.optim.Adam.load_state_dict``; moments are laid out as their parameters."""
        _LOAD_STATE_DICT(self, state_dict)
        lay_out_state(self)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As ``torch.optim.Adam.step``."""
        moved = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        if (
            closure is not None
            or any(p not in self.state for group in moved for p in group)
            or any(group["decoupled_weight_decay"] for group in self.param_groups)
        ):
            # torch's own step creates the moments at the first call. It counts once for each
            # parameter, so parameters must not share a count.
            for state in self.state.values():
                state["step"] = state["step"].clone()
            return _STEP(self, closure)
        for group, parameters in zip(self.param_groups, moved, strict=True):
            if parameters:
                self._step_group(group, parameters)
        return None

    def _step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        steps = _count_step(states, is_whole_group=len(parameters) == len(group["params"]))
        beta1, beta2 = group["betas"]
        amsgrad = group["amsgrad"]
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if amsgrad else [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=amsgrad,
            maximize=group["maximize"],
            found_inf=self.found_inf,
        )
        if self.found_inf is not None:
            # A step that was skipped does not count. Parameters may share a count.
            for step in {id(step): step for step in steps}.values():
                step -= self.found_inf


def _count_step(states: list[dict[str, Tensor]], *, is_whole_group: bool) -> list[Tensor]:
    """Counts a step; the parameters share one counter if a whole group has the same count."""
    count, is_shared = states[0]["step"], is_whole_group
    if is_shared and any(state["step"] is not count for state in states):
        # Compared together: on a GPU, each comparison that is read would wait.
        is_shared = bool((torch.stack([state["step"] for state in states]) == count).all())
    if is_shared:
        count += 1
    for state in states:
        state["step"] = count if is_shared else state["step"] + 1
    return [state["step"] for state in states]


_STEP = inspect.unwrap(Adam.step)
_ADD_PARAM_GROUP = inspect.unwrap(Optimizer.add_param_group)
_STATE_DICT = inspect.unwrap(Optimizer.state_dict)
_LOAD_STATE_DICT = inspect.unwrap(Optimizer.load_state_dict)
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As ``Optimizer.load_state_dict``; the means are laid out as their parameters."""
        _LOAD_STATE_DICT(self, state_dict)
        lay_out_state(self)

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
