"""Dormant units: units of the encoder's layers that are almost always 0."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlssl.networks.encoders import ACTIVATIONS

#: Keeps a layer of zeros from a division by 0.
_EPSILON = 1e-9


def is_dormant(sizes: Tensor, tau: float = 0.1) -> Tensor:
    """Which units of a layer are dormant: ``s = sizes / (mean(sizes) + 1e-9) <= tau``.

    Args:
        sizes: [U], mean absolute activation of each unit.
        tau: Largest score of a dormant unit; >= 0.

    Returns:
        [U], bool. All units of a layer of zeros are dormant.

    Source:
        Sokar et al. 2023, arXiv:2302.12902, and the published code (Dopamine, ReDo), which has the
        1e-9.

    Example:
        The mean is 1, so the scores are 0, 1, 1 and 2.

        >>> is_dormant(torch.tensor([0.0, 1.0, 1.0, 2.0])).tolist()
        [True, False, False, False]
    """
    return sizes / (sizes.mean() + _EPSILON) <= tau


class Activity:
    """Measures the mean absolute outputs of the activations of a network.

    A layer is an activation (ReLU, tanh, ...: a module of `rlssl.networks.encoders.ACTIVATIONS`),
    in the order of the network's modules. So outputs that no activation follows, as a LayerNorm's
    at the end of an encoder, are no layer. An activation that runs several times in one pass counts
    as several layers.

    Example:
        >>> network = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> activity = Activity(network)
        >>> with activity.measured():
        ...     _ = network(torch.tensor([[-1.0, 3.0], [-2.0, 1.0]]))
        >>> [sizes.tolist() for sizes in activity.sizes()]
        [[0.0, 2.0]]
    """

    def __init__(self, network: nn.Module) -> None:
        kinds = tuple(ACTIVATIONS.values())
        self._layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
        # (Activation, its how many-th call in a pass) -> sum of the absolute outputs, [U]; and the
        # number of rows behind it.
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._calls: dict[int, int] = {}

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measures the one pass through the network that runs inside the ``with`` block."""
        self._calls = dict.fromkeys(range(len(self._layers)), 0)
        handles = [
            layer.register_forward_hook(self._hook(index))
            for index, layer in enumerate(self._layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def sizes(self) -> list[Tensor]:
        """For each layer, [U]: the mean absolute output of its units over rows and places."""
        return [self._sums[key] / self._counts[key] for key in sorted(self._sums)]

    def _hook(self, index: int) -> Callable[[nn.Module, Any, Tensor], None]:
        def add(layer: nn.Module, inputs: Any, outputs: Tensor) -> None:
            key = (index, self._calls[index])
            self._calls[index] += 1
            # [N, U] or [N, U, places...] to [N * places, U]
            rows = outputs.detach().flatten(2).transpose(1, 2) if outputs.ndim > 2 else outputs
            rows = rows.reshape(-1, outputs.shape[1]).abs().double()
            self._sums[key] = self._sums.get(key, 0.0) + rows.sum(0)
            self._counts[key] = self._counts.get(key, 0) + len(rows)

        return add


def dormant(sizes: Iterable[Tensor], *, tau: float = 0.1) -> dict[str, float]:
    """Shares of dormant units.

    Args:
        sizes: For each layer, [U]: mean absolute activation of its units.
        tau: See `is_dormant`.

    Returns:
        ``share``, of all units of all layers; and ``layer_1``, ``layer_2``, ..., the share of each
        layer. Without layers, ``share`` is nan.

    Example:
        >>> dormant([torch.tensor([0.0, 1.0, 1.0, 2.0]), torch.zeros(2)])
        {'share': 0.5, 'layer_1': 0.25, 'layer_2': 1.0}
    """
    found = [is_dormant(layer, tau).double() for layer in sizes]
    share = float(torch.cat(found).mean()) if found else float("nan")
    layers = {f"layer_{index}": float(layer.mean()) for index, layer in enumerate(found, 1)}
    return {"share": share, **layers}
