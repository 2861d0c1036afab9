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
    check_tau(tau)
    Pairs.of(online, target).move(tau)


class Pairs(NamedTuple):
    """Tensors of a copy and of the network that it follows, listed once.

    Walking through modules takes longer than moving small ones.
    """

    online: nn.Module
    slow: list[Tensor]
    fast: list[Tensor]
    buffers: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, online: nn.Module, target: nn.Module) -> Self:
        """Lists them; a tied parameter once, so that it moves once.

        Raises:
            ValueError: If the two networks differ.
        """
        names, theirs = (
            [name for name, _ in [*network.named_parameters(), *network.named_buffers()]]
            for network in (online, target)
        )
        if names != theirs:
            differing = sorted({*names} ^ {*theirs})
            raise ValueError(f"target must be a copy of online; only one of them has {differing}.")
        buffers = zip(target.buffers(), online.buffers(), strict=True)
        return cls(online, [*target.parameters()], [*online.parameters()], [*buffers])

    @torch.no_grad()
    def move(self, tau: float) -> None:
        """See ``update_ema``."""
        if self.slow:
            torch._foreach_lerp_(self.slow, self.fast, tau)
        for slow, buffer in self.buffers:
            slow.copy_(buffer)


def check_tau(tau: float) -> None:
    """Raises a ValueError for a share that is none."""
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must be in [0, 1]; got {tau}.")


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

    def update(self, online: nn.Module, tau: float) -> None:
        """See ``update_ema``; ``online`` keeps its parameters after the first call."""
        check_tau(tau)
        pairs = self.__dict__.get("_pairs")
        if pairs is None or pairs.online is not online:
            # Beside what nn.Module registers: the online network is not a part of this one.
            pairs = self.__dict__["_pairs"] = Pairs.of(online, self.target)
        pairs.move(tau)
