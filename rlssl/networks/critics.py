"""Critics: values of continuous actions, from one or several networks at once."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlssl.networks.encoders import check_size, check_sizes, make_activation
from rlssl.networks.layers.ensemble import EnsembleLinear, initialize
from rlssl.networks.layers.linear import by_columns


class QCritics(nn.Module):
    """C critics Q(latent, action) of the same shape, computed together.

    DDPG has one critic; TD3 and SAC have two (twins) with separate weights.

    Example:
        >>> critics = QCritics(3, 2, hidden=(8,), num_critics=2, init="fan_in", final_bound=None)
        >>> critics(torch.ones(5, 3), torch.zeros(5, 2)).shape
        torch.Size([2, 5])

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971; Fujimoto et al. 2018, arXiv:1802.09477.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int],
        num_critics: int,
        init: str,
        final_bound: float | None,
        action_layer: int = 1,
        activation: str = "relu",
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Features of a latent, or of an observation.
            action_dim: A, features of an action.
            hidden: Features of each hidden layer.
            num_critics: C.
            init: ``fan_in`` or ``orthogonal``; see ``ensemble.initialize``.
            final_bound: The output layer is uniform in +-final_bound; Lillicrap: 3e-3 (3e-4 on
                pixels); None: as ``init``.
            action_layer: Layer that reads the action, counted from 1; DDPG: 2. The output layer is
                ``len(hidden) + 1``.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.

        Raises:
            ValueError: If a size, ``action_layer`` or an option is invalid.
        """
        super().__init__()
        sizes = [latent_dim, *check_sizes("hidden", hidden), 1]
        for name, size in (
            ("latent_dim", latent_dim),
            ("action_dim", action_dim),
            ("num_critics", num_critics),
        ):
            check_size(name, size)
        if not 1 <= action_layer < len(sizes):
            raise ValueError(
                f"action_layer must be in [1, {len(sizes) - 1}], for {len(hidden)} hidden layers; "
                f"got {action_layer}."
            )
        self._action_index = action_layer - 1
        self._num_critics = num_critics
        layers = []
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            action_features = action_dim if index == self._action_index else 0
            layers.append(EnsembleLinear(num_critics, fan_in + action_features, fan_out))
        for layer in layers:
            initialize(layer, init, final_bound if layer is layers[-1] else None)
        self.layers = nn.ModuleList(layers)
        self.activation = make_activation(activation)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """[N, latent_dim] and [N, A] to values [C, N]."""
        if self._num_critics == 1:
            return self.first(latent, action).unsqueeze(0)
        x = latent
        for index, layer in enumerate(self.layers):
            if index == self._action_index:
                x = torch.cat([x, action.expand(*x.shape[:-1], -1)], dim=-1)
            x = layer(x, self._activation_of(index))
        return x.squeeze(-1)

    def first(self, latent: Tensor, action: Tensor) -> Tensor:
        """[N], values of the first critic only: half the work of two critics."""
        x = latent
        layer: Any
        for index, layer in enumerate(self.layers):
            if index == self._action_index:
                x = torch.cat([x, action], dim=-1)
            # For one critic squeeze, not an index: the gradient of an index is padded with zeros.
            parameters = (layer.weight, layer.bias)
            weight, bias = (p.squeeze(0) if self._num_critics == 1 else p[0] for p in parameters)
            x = by_columns(x, weight, bias, self._activation_of(index))
        return x.squeeze(-1)

    def _activation_of(self, index: int) -> nn.Module | None:
        return self.activation if index < len(self.layers) - 1 else None
