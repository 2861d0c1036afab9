"""Exponential moving averages of networks: slow copies that give stable targets."""

import copy
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_ema(online: nn.Module, target: nn.Module, tau: float) -> None:
    """Moves ``target`` towards ``online``: ``target = (1 - tau) * target + tau * online``.

    Buffers are copied: an average of running statistics or counters means nothing.

    Args:
        online: The network that learns.
        target: A copy of it, changed in place.
        tau: Share of the online weights; in [0, 1], no unit. 1 copies.

    Raises:
        ValueError: If ``tau`` is outside [0, 1], or the two networks differ.
    """
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must be in [0, 1]; got {tau}.")
    # A tied parameter is listed once, so it moves once.
    parameters, buffers = dict(online.named_parameters()), dict(online.named_buffers())
    targets, target_buffers = dict(target.named_parameters()), dict(target.named_buffers())
    if parameters.keys() != targets.keys() or buffers.keys() != target_buffers.keys():
        differing = sorted({*parameters, *buffers} ^ {*targets, *target_buffers})
        raise ValueError(f"target must be a copy of online; only one of them has {differing}.")
    if parameters:
        moved: list[torch.Tensor] = [targets[name] for name in parameters]
        torch._foreach_lerp_(moved, list(parameters.values()), tau)
    for name, buffer in buffers.items():
        target_buffers[name].copy_(buffer)


class _Pairs(NamedTuple):
    """Tensors of a copy and of the network that it follows, listed once.

    Walking through modules takes longer than moving small ones.
    """

    online: nn.Module
    slow: list[Tensor]
    fast: list[Tensor]
    buffers: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, online: nn.Module, target: nn.Module) -> Self:
        # A tied parameter is listed once.
        buffers = zip(target.buffers(), online.buffers(), strict=True)
        return cls(online, [*target.parameters()], [*online.parameters()], [*buffers])


class EMACopy(nn.Module):
    """A copy of a network that follows it slowly and takes no gradient.

    Its weights are in ``state_dict`` under ``target``; the online network is not kept.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.target = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: Any) -> Any:
        """What the copy gives, without a graph."""
        return self.target(*args)

    @torch.no_grad()
    def update(self, online: nn.Module, tau: float) -> None:
        """See ``update_ema``, which the first call is; ``online`` keeps its parameters after it."""
        pairs = self.__dict__.get("_pairs")
        if pairs is None or pairs.online is not online or not 0.0 <= tau <= 1.0:
            update_ema(online, self.target, tau)
            self.__dict__["_pairs"] = _Pairs.of(online, self.target)
            return
        if pairs.slow:
            torch._foreach_lerp_(pairs.slow, pairs.fast, tau)
        for slow, buffer in pairs.buffers:
            slow.copy_(buffer)
