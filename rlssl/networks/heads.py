"""Output layers: from a latent to values, logits or the parameters of a Gaussian."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rlssl.networks.encoders import check_size, check_sizes, make_activation
from rlssl.networks.layers.initialization import HIDDEN_GAIN, OUTPUT_GAIN, orthogonal_init
from rlssl.networks.layers.linear import Layers, Linear


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


#: From the features of the input and of the output to a layer, such as ``NoisyLinear``.
LinearFactory = Callable[[int, int], nn.Module]


class QHead(nn.Module):
    """Values of discrete actions, or distributions of returns; dueling where asked.

    Dueling streams V (of the state) and B (of the actions), each with hidden layers of its own::

        Q(a) = V + B(a) - mean_a' B(a')

    With distributions this holds for every atom's logit.

    Source:
        Wang et al. 2016, arXiv:1511.06581, eq. 9; Hessel et al. 2018, arXiv:1710.02298.
        Differs: orthogonal initialization.
    """

    def __init__(
        self,
        latent_dim: int,
        num_actions: int,
        *,
        num_atoms: int | None = None,
        dueling: bool = True,
        hidden: Sequence[int] = (512,),
        activation: str = "relu",
        make_linear: LinearFactory | None = None,
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Features of a latent.
            num_actions: A.
            num_atoms: Atoms of each action's distribution; None: plain values.
            dueling: Whether values have streams of their own for state and actions.
            hidden: Features of each hidden layer, of either stream; may be empty.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.
            make_linear: Builds each layer, for instance
                ``functools.partial(NoisyLinear, sigma0=0.1)``, which initializes it as well; None:
                linear layers, orthogonal (gain 0.01 to the logits of atoms, 1 to values).

        Raises:
            ValueError: If a size or the activation does not suit.
        """
        super().__init__()
        for name, size in (("latent_dim", latent_dim), ("num_actions", num_actions)):
            check_size(name, size)
        if num_atoms is not None:
            check_size("num_atoms", num_atoms)
        check_sizes("hidden", hidden)
        self._shape = (num_actions,) if num_atoms is None else (num_actions, num_atoms)
        gain = 1.0 if num_atoms is None else OUTPUT_GAIN

        def stream(outputs: int) -> Layers:
            sizes = [latent_dim, *hidden, outputs * (num_atoms or 1)]
            return _stream(sizes, activation, make_linear, gain)

        self.actions = stream(num_actions)
        self.state = stream(1) if dueling else None

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to values [N, A], or to logits [N, A, atoms]."""
        values = self.actions(latent).unflatten(1, self._shape)
        if self.state is None:
            return values
        state = self.state(latent).unflatten(1, (1, *self._shape[1:]))
        return values + (state - values.mean(dim=1, keepdim=True))


def _stream(
    sizes: Sequence[int], activation: str, make_linear: LinearFactory | None, gain: float
) -> Layers:
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        is_last = index == len(sizes) - 2
        if make_linear is None:
            linear: nn.Module = Linear(fan_in, fan_out)
            orthogonal_init(linear, gain if is_last else HIDDEN_GAIN)
        else:
            linear = make_linear(fan_in, fan_out)
        layers += [linear] if is_last else [linear, make_activation(activation)]
    return Layers(*layers)
