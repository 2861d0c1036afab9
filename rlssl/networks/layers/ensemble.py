"""Several networks of the same shape, computed as one."""

import math

import torch
from torch import Tensor, nn

from rlssl.networks.layers.linear import (
    activated,
    activated_in_place,
    by_columns,
    is_for_onednn,
    linear,
)

#: Initial weights of linear layers: uniform in +-1/sqrt(fan_in) (torch's default), or orthogonal
#: with gain 1.
INITIALIZATIONS = ("fan_in", "orthogonal")


class EnsembleLinear(nn.Module):
    """C linear layers of the same shape, with their weights in one parameter.

    Each member is initialized like an independent ``nn.Linear``. Small products are computed as one
    batched product. On the CPU this is as fast as C separate layers, and faster if the layers are
    small (1.4 times for two layers of 64 features, batch 32). The optimizer has C times fewer
    tensors. Large products are computed one by one, by ``rlssl.networks.layers.linear``.
    """

    def __init__(self, num: int, in_features: int, out_features: int) -> None:
        """Draws weights and biases uniformly in +-1/sqrt(in_features), as torch's layers do.

        Args:
            num: C, members.
            in_features: Features of each member's input.
            out_features: Features of each member's output.
        """
        super().__init__()
        bound = 1.0 / math.sqrt(in_features)
        weight = torch.empty(num, in_features, out_features).uniform_(-bound, bound)
        bias = torch.empty(num, 1, out_features).uniform_(-bound, bound)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor, activation: nn.Module | None = None) -> Tensor:
        """[N, in], the same for all members, or [C, N, in] to [C, N, out]; see ``linear``."""
        if self.weight.shape[2] == 1:
            # Twice as fast as a batched product with one column.
            column = (x * self.weight.transpose(1, 2)).sum(dim=-1, keepdim=True) + self.bias
            return activated(column, activation)
        if x.ndim == 2:
            x = x.expand(len(self.weight), -1, -1)
        if len(self.weight) == 1:
            # Only views: no need to stack the members as below.
            weight, bias = self.weight.squeeze(0), self.bias.flatten()
            return by_columns(x.squeeze(0), weight, bias, activation).unsqueeze(0)
        if not is_for_onednn(x, self.weight, x.shape[1] * math.prod(self.weight.shape[1:])):
            return activated_in_place(torch.baddbmm(self.bias, x, self.weight), activation)
        members = zip(x.unbind(), self.weight.unbind(), self.bias.squeeze(1).unbind(), strict=True)
        return torch.stack([linear(rows, w.t(), bias, activation) for rows, w, bias in members])

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        num, in_features, out_features = self.weight.shape
        return f"{num} x ({in_features}, {out_features})"


class EnsembleLayerNorm(nn.Module):
    """C layer normalizations with separate weights."""

    def __init__(self, num: int, features: int) -> None:
        """Builds ``num`` members over ``features`` features, with weights 1 and biases 0."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num, 1, features))
        self.bias = nn.Parameter(torch.zeros(num, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        """[C, N, features] to [C, N, features]."""
        normalized = nn.functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias, normalized, self.weight)


@torch.no_grad()
def initialize(layer: nn.Linear | EnsembleLinear, how: str, bound: float | None = None) -> None:
    """Draws new initial weights for a layer, in place.

    Args:
        layer: A linear layer, or an ensemble whose members are drawn one by one.
        how: ``fan_in``: weights and biases uniform in +-1/sqrt(in) (torch's default, Lillicrap).
            ``orthogonal``: gain 1, biases zero (SAC-AE, CURL, DrQ-v2).
        bound: Weights and biases uniform in +-bound instead; None: as ``how`` says.

    Raises:
        ValueError: If ``how`` is unknown, or ``bound`` is not > 0.

    Example:
        >>> layer = nn.Linear(3, 3)
        >>> initialize(layer, "orthogonal")
        >>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(3), atol=1e-6)
        True
    """
    if how not in INITIALIZATIONS:
        raise ValueError(f"init must be one of {list(INITIALIZATIONS)}; got {how!r}.")
    if bound is not None and not bound > 0:
        raise ValueError(f"the bound of an initialization must be > 0, or None; got {bound}.")
    if bound is None and how == "orthogonal":
        members = [layer.weight] if layer.weight.ndim == 2 else list(layer.weight)
        for weight in members:
            nn.init.orthogonal_(weight)
        nn.init.zeros_(layer.bias)
        return
    fan_in = layer.weight.shape[1]
    limit = 1.0 / math.sqrt(fan_in) if bound is None else bound
    for parameter in (layer.weight, layer.bias):
        parameter.uniform_(-limit, limit)
