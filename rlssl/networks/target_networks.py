"""Target networks: copies of online networks, updated by moving averages or by full copies."""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_ema(online: nn.Module, target: nn.Module, tau: float) -> None:
    """Polyak update: ``target = (1 - tau) * target + tau * online``.

    Buffers are copied, because an average of running statistics or counters has no meaning.

    Args:
        online: The network that learns.
        target: A copy of ``online``, changed in place.
        tau: Fraction of the online weights; in [0, 1], no unit. 1 copies all weights.

    Raises:
        ValueError: If ``tau`` is outside [0, 1], or the two networks differ.

    Example:
        0.75 * 4 + 0.25 * 8 = 5.

        >>> online, target = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> _ = nn.init.constant_(online.weight, 8.0), nn.init.constant_(target.weight, 4.0)
        >>> update_ema(online, target, tau=0.25)
        >>> target.weight.item()
        5.0
    """
    check_tau(tau)
    TensorPairs.of(online, target).polyak_update(tau)


class TensorPairs(NamedTuple):
    """Tensors of a target network and of its online network, listed once.

    For small networks, walking through the modules takes longer than the update itself.
    """

    network: nn.Module
    target: list[Tensor]
    online: list[Tensor]
    #: (target, online)
    buffers: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, online: nn.Module, target: nn.Module) -> Self:
        """Lists the tensors of two networks. A tied parameter is listed once and updated once.

        Raises:
            ValueError: If the two networks differ.
        """
        online_names, target_names = (
            [name for name, _ in [*network.named_parameters(), *network.named_buffers()]]
            for network in (online, target)
        )
        if online_names != target_names:
            differing = sorted({*online_names} ^ {*target_names})
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
    """Raises a ValueError unless ``tau`` is in [0, 1]."""
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must be in [0, 1]; got {tau}.")


class EMACopy(nn.Module):
    """A copy of a network: an exponential moving average (EMA) of its weights, without gradients.

    The weights of the copy are in ``state_dict`` under ``target``. The online network is not a
    submodule.

    Example:
        >>> online = nn.Linear(1, 1)
        >>> ema = EMACopy(online)
        >>> _ = nn.init.ones_(online.weight)
        >>> ema.update(online, tau=1.0)
        >>> ema.target.weight.item()
        1.0
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.target = copy.deepcopy(online).requires_grad_(False)
        # In __dict__, so that nn.Module does not register the online network as a submodule.
        self.__dict__["_online"] = online

    @torch.no_grad()
    def forward(self, *args: Any) -> Any:
        """Output of the copy, without a graph."""
        return self.target(*args)

    def layers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """(layer of the copy, layer of the network that it is a copy of)."""
        online: nn.Module = self.__dict__["_online"]
        yield from zip(self.target.modules(), online.modules(), strict=True)

    def copy_online(self) -> None:
        """Copies all weights of the network that this is a copy of, as at the start."""
        self.update(self.__dict__["_online"], 1.0)

    def update(self, online: nn.Module, tau: float) -> None:
        """See ``update_ema``. ``online`` must keep its parameter objects after the first call."""
        check_tau(tau)
        pairs = self.__dict__.get("_pairs")
        if pairs is None or pairs.network is not online:
            pairs = self.__dict__["_pairs"] = TensorPairs.of(online, self.target)
        pairs.polyak_update(tau)


class TargetNetwork(EMACopy):
    """A target network: a Polyak update after every update, or a full copy every k updates.

    The number of updates is in ``state_dict``, so a restored run copies at the same updates.

    Example:
        >>> online = nn.Linear(1, 1)
        >>> target = TargetNetwork(online, tau=None, every_updates=2)
        >>> _ = nn.init.constant_(online.weight, 3.0)
        >>> target.after_update()
        >>> target.after_update()
        >>> target.target.weight.item()
        3.0
    """

    def __init__(self, online: nn.Module, *, tau: float | None, every_updates: int | None) -> None:
        """Copies ``online``, which does not become a submodule.

        Args:
            online: The network that learns.
            tau: Fraction of the online weights copied after every update; in (0, 1]. None: full
                copies.
            every_updates: Updates between two full copies; >= 1. None: Polyak updates.

        Raises:
            ValueError: Unless exactly one of ``tau`` and ``every_updates`` is None.
        """
        super().__init__(online)
        if (tau is None) == (every_updates is None):
            raise ValueError(
                f"give exactly one of tau and every_updates; got {tau} and {every_updates}."
            )
        self._tau, self._every_updates = tau, every_updates
        self._num_updates = 0

    def after_update(self) -> None:
        """Counts an update, and changes the target network if this update is due."""
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
        """Restores the result of ``get_extra_state``."""
        self._num_updates = int(state[0])


class TargetNetworks(EMACopy):
    """Target networks of several online networks, each with its tau.

    Example:
        0.75 * 0 + 0.25 * 4 = 1.

        >>> critic = nn.Linear(1, 1)
        >>> _ = nn.init.zeros_(critic.weight)
        >>> targets = TargetNetworks(nn.ModuleDict({"critic": critic}), {"critic": 0.25})
        >>> _ = nn.init.constant_(critic.weight, 4.0)
        >>> targets.polyak_update()
        >>> targets.target["critic"].weight.item()
        1.0

    Source:
        Yarats et al. 2019, arXiv:1910.01741, and CURL's code: 0.05 for the encoder, 0.01 for the
        critics.
    """

    def __init__(self, online: nn.ModuleDict, taus: Mapping[str, float]) -> None:
        """Copies ``online``, which does not become a submodule.

        Args:
            online: The networks that learn.
            taus: For each network, the fraction of the online weights that ``polyak_update``
                copies; in (0, 1].

        Raises:
            ValueError: If a network has no tau, or a tau is out of range.
        """
        super().__init__(online)
        if taus.keys() != set(online.keys()) or not all(0 < tau <= 1 for tau in taus.values()):
            raise ValueError(
                f"taus must give {sorted(online.keys())} a number in (0, 1] each; got {dict(taus)}."
            )
        self._taus = dict(taus)

    def polyak_update(self) -> None:
        """Moves every target network towards its online network; buffers are copied."""
        for pairs, tau in self._pairs_and_taus:
            pairs.polyak_update(tau)

    @functools.cached_property
    def _pairs_and_taus(self) -> list[tuple[TensorPairs, float]]:
        online, target = self.__dict__["_online"], cast("nn.ModuleDict", self.target)
        return [
            (TensorPairs.of(online[name], target[name]), tau) for name, tau in self._taus.items()
        ]
