"""Target networks that are kept by the number of updates, not by env steps."""

import functools
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from rlssl.networks.ema import EMACopy, Pairs


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


class SlowParts(EMACopy):
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

    def move(self) -> None:
        """Takes a step towards the online networks, buffers and all."""
        for pairs, tau in self._moved:
            pairs.move(tau)

    @functools.cached_property
    def _moved(self) -> list[tuple[Pairs, float]]:
        online, target = self.__dict__["_online"], cast("nn.ModuleDict", self.target)
        return [(Pairs.of(online[name], target[name]), tau) for name, tau in self._taus.items()]
