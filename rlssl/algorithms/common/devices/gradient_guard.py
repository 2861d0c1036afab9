"""Clips gradients, and finds those that are not finite.

On a CPU the answer is known at once (`HostGuard`). On a GPU (`DeviceGuard`) norms, clipping and the
check stay on the device, where the optimizers read the result; the host learns it later.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlssl.algorithms.common.devices.transfers import HostCopy

#: Name of an optimizer -> largest norm of its gradients; None: no clipping.
Limits = Callable[[str], float | None]

#: Updates after which the host knows at the latest whether an update on a GPU was skipped.
LATEST_UPDATES = 4


class Update(NamedTuple):
    """An update, once it is known whether it was made."""

    is_finite: bool
    # The rows that it learned from.
    batch: Mapping[str, Any]


class HostGuard:
    """Reads the norms at once, which costs nothing on a CPU."""

    #: What the optimizers read to skip a step: nothing; the Learner does not call them.
    found_inf: Tensor | None = None

    def clip(
        self, gradients: Mapping[str, list[Tensor]], limit_of: Limits
    ) -> tuple[dict[str, Any], bool]:
        """Clips the global norm of each group of gradients, unless one is not finite.

        Args:
            gradients: Groups by name; changed in place.
            limit_of: Name -> largest norm; None: no clipping.

        Returns:
            Name -> norm before clipping, for groups that are not empty; and whether the update may
            continue.
        """
        norms = clip_gradients(gradients, limit_of)
        return norms, all(map(math.isfinite, norms.values()))

    def finish(self, is_finite: bool, batch: Mapping[str, Any]) -> list[Update]:
        """Ends an update; returns the updates that became known.

        Args:
            is_finite: Whether all calls of ``clip`` said that the update may continue.
            batch: The rows that the update learned from.
        """
        return [Update(is_finite, batch)]

    def wait(self) -> list[Update]:
        """Waits for the updates that are not known yet, and returns them."""
        return []


class DeviceGuard(HostGuard):
    """Leaves norms and the check on the device; the host never waits for the current update.

    After a gradient that is not finite, all later optimizer steps of the same update are skipped:
    the optimizers get ``found_inf``. The rest of the update continues with the old weights.

    Args:
        device: The device of the gradients.

    Example:
        >>> guard = DeviceGuard(torch.device("cpu"))
        >>> norms, may_continue = guard.clip({"adam": [torch.tensor([math.nan])]}, lambda name: 1.0)
        >>> may_continue, guard.found_inf
        (True, tensor(1.))
        >>> [update.is_finite for update in guard.finish(True, {}) + guard.wait()]
        [False]
    """

    found_inf: Tensor

    def __init__(self, device: torch.device) -> None:
        self.found_inf = torch.zeros((), device=device)
        self._unknown: deque[tuple[HostCopy, Mapping[str, Any]]] = deque()

    @torch.no_grad()
    def clip(
        self, gradients: Mapping[str, list[Tensor]], limit_of: Limits
    ) -> tuple[dict[str, Any], bool]:
        """See `HostGuard`; norms are scalars on the device, and the update always continues."""
        norms = group_norms(gradients)
        for name, norm in norms.items():
            limit = limit_of(name)
            if limit is not None:
                # The same formula as torch's clip_grad_norm_.
                factor = (limit / (norm + 1e-6)).clamp_(max=1.0)
                torch._foreach_mul_(gradients[name], factor)
        if norms:
            total = torch.stack(list(norms.values())).sum()
            self.found_inf.logical_or_(total.isfinite().logical_not_())
        return norms, True

    def finish(self, is_finite: bool, batch: Mapping[str, Any]) -> list[Update]:
        """See `HostGuard`; an update is known at most ``LATEST_UPDATES`` updates later."""
        del is_finite
        self._unknown.append((HostCopy(self.found_inf), batch))
        # Behind the copy in the order of the device's work, so the copy has the old value.
        self.found_inf.zero_()
        known = []
        while self._unknown and (
            len(self._unknown) > LATEST_UPDATES or self._unknown[0][0].is_ready()
        ):
            known.append(self._next())
        return known

    def wait(self) -> list[Update]:
        """See `HostGuard`."""
        return [self._next() for _ in range(len(self._unknown))]

    def _next(self) -> Update:
        found, batch = self._unknown.popleft()
        return Update(not found.array().item(), batch)


def guard_for(device: torch.device) -> HostGuard:
    """The guard for gradients on a device.

    Example:
        >>> type(guard_for(torch.device("cpu"))).__name__
        'HostGuard'
    """
    return HostGuard() if device.type == "cpu" else DeviceGuard(device)


@torch.no_grad()
def clip_gradients(gradients: Mapping[str, list[Tensor]], limit_of: Limits) -> dict[str, float]:
    """Clips the global norm of each group of gradients, unless one is not finite.

    It synchronizes with the device only once, for all norms.

    Args:
        gradients: Groups by name; changed in place.
        limit_of: Name -> largest norm; None: no clipping.

    Returns:
        Name -> norm before clipping, for groups that are not empty.
    """
    every = [gradient for group in gradients.values() for gradient in group]
    if not every:
        return {}
    sizes = iter(torch.stack(torch._foreach_norm(every)).tolist())
    norms = {
        name: math.hypot(*itertools.islice(sizes, len(group)))
        for name, group in gradients.items()
        if group
    }
    if all(map(math.isfinite, norms.values())):
        for name, norm in norms.items():
            limit = limit_of(name)
            if limit is not None and norm + 1e-6 > limit:
                # The same formula as torch's clip_grad_norm_.
                torch._foreach_mul_(gradients[name], limit / (norm + 1e-6))
    return norms


@torch.no_grad()
def group_norms(gradients: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """The global norm of each group of gradients that is not empty, as scalars on their device."""
    every = [gradient for group in gradients.values() for gradient in group]
    if not every:
        return {}
    sizes = torch.stack(torch._foreach_norm(every))
    groups = {name: len(group) for name, group in gradients.items() if group}
    parts = sizes.split(list(groups.values()))
    return {name: torch.linalg.vector_norm(part) for name, part in zip(groups, parts, strict=True)}
