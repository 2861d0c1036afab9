"""Output layers: from a latent to values, logits or the parameters of a Gaussian."""

import torch
from torch import Tensor, nn

from rlssl.networks.init import OUTPUT_GAIN, orthogonal_init
from rlssl.networks.linear import Linear


def linear_head(in_dim: int, out_dim: int, gain: float) -> nn.Linear:
    """One linear layer, [N, in_dim] to [N, out_dim], orthogonal with the given gain, zero bias.

    Usual gains: 0.01 for logits (a policy near uniform at the start), 1.0 for values.
    """
    return orthogonal_init(Linear(in_dim, out_dim), gain)


class GaussianHead(nn.Module):
    """A Gaussian whose mean depends on the latent and whose deviation does not.

    ``log_std`` is one learned number a dimension of the action, 0 at the start: deviation 1.

    Source:
        Schulman et al. 2017, arXiv:1707.06347, section 6.1.
    """

    def __init__(self, in_dim: int, action_dim: int) -> None:
        """Builds the layer; ``in_dim`` and ``action_dim`` count features."""
        super().__init__()
        self.mean = linear_head(in_dim, action_dim, OUTPUT_GAIN)
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def forward(self, latent: Tensor) -> Tensor:
        """[N, in_dim] to [N, 2 * action_dim]: means, then logarithms of the deviations (nats)."""
        mean = self.mean(latent)
        return torch.cat([mean, self.log_std.expand_as(mean)], dim=-1)
