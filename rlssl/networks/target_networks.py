"""Target networks: copies that follow the online networks, by averages or by full copies."""

import copy
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, cast

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
    TensorPairs.of(online, target).polyak_update(tau)


class TensorPairs(NamedTuple):
    """Tensors of a copy and of the network that it follows, listed once.

    Walking through modules takes longer than moving small ones.
    """

    network: nn.Module
    target: list[Tensor]
    online: list[Tensor]
    #: (target, online)
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
    def polyak_update(self, tau: float) -> None:
        """See ``update_ema``."""
        if self.target:
            torch._foreach_lerp_(self.target, self.online, tau)
        for target, online in self.buffers:
            target.copy_(online)


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
        if pairs is None or pairs.network is not online:
            # Beside what nn.Module registers: the online network is not a part of this one.
            pairs = self.__dict__["_pairs"] = TensorPairs.of(online, self.target)
        pairs.polyak_update(tau)


class TargetNetwork(EMACopy):
    """A copy of a network that follows it after every update, or is renewed every so many.

    The number of updates is in ``state_dict``, so that a restored run copies when it would have.
    """

    def __init__(
        self, online: nn.Module, *, tau: float | None = None, every_updates: int | None = None
    ) -> None:
        """Copies ``online``, which is not registered here: it belongs to who made it.

        Args:
            online: The network that learns.
            tau: Share of its weights taken over after every update; in (0, 1].
            every_updates: Takes all of them over after so many updates instead; >= 1.

        Raises:
            ValueError: Unless exactly one of the two is given.
        """
        super().__init__(online)
        if (tau is None) == (every_updates is None):
            raise ValueError(
                f"give exactly one of tau and every_updates; got {tau} and {every_updates}."
            )
        self.__dict__["_online"] = online
        self._tau, self._every_updates = tau, every_updates
        self._num_updates = 0

    def after_update(self) -> None:
        """Counts an update, and moves the copy when it is time to."""
        self._num_updates += 1
        online: nn.Module = self.__dict__["_online"]
        if self._tau is not None:
            self.update(online, self._tau)
        elif self._every_updates is not None and self._num_updates % self._every_updates == 0:
            self.update(online, 1.0)

    def get_extra_state(self) -> Tensor:
        """[1], the number of updates."""
        return torch.tensor([self._num_updates], dtype=torch.int64)

    def set_extra_state(self, state: Any) -> None:
        """Restores what ``get_extra_state`` gave."""
        self._num_updates = int(state[0])


class TargetNetworks(EMACopy):
    """A copy of several networks, each of which follows its own at a speed of its own.

    Source:
        Yarats et al. 2019, arXiv:1910.01741, and CURL's code: 0.05 for the encoder, 0.01 for the
        critics.
    """

    def __init__(self, online: nn.ModuleDict, taus: Mapping[str, float]) -> None:
        """Copies ``online``, which is not registered here: it belongs to who made it.

        Args:
            online: The networks that learn.
            taus: Share of each one's weights taken over by ``move``; in (0, 1].

        Raises:
            ValueError: If a network has no tau, or one is out of range.
        """
        super().__init__(online)
        if taus.keys() != set(online.keys()) or not all(0 < tau <= 1 for tau in taus.values()):
            raise ValueError(
                f"taus must give {sorted(online.keys())} a number in (0, 1] each; got {dict(taus)}."
            )
        self.__dict__["_online"] = online
        self._taus = dict(taus)

    def polyak_update(self) -> None:
        """Takes a step towards the online networks, buffers and all."""
        for pairs, tau in self._moved:
            pairs.polyak_update(tau)

    @functools.cached_property
    def _moved(self) -> list[tuple[TensorPairs, float]]:
        online, target = self.__dict__["_online"], cast("nn.ModuleDict", self.target)
        return [
            (TensorPairs.of(online[name], target[name]), tau) for name, tau in self._taus.items()
        ]
