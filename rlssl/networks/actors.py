"""Actors: deterministic, Gaussian (squashed by a tanh, or with a bounded mean), categorical."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlssl.networks.encoders import check_size, check_sizes, make_activation
from rlssl.networks.layers.ensemble import initialize
from rlssl.networks.layers.linear import Layers, Linear

#: Ways to keep the logarithm of the standard deviation within its bounds.
LOG_STD_MODES = ("clamp", "tanh")


class DeterministicActor(nn.Module):
    """Linear layers and a tanh: one action per latent.

    Example:
        >>> import torch
        >>> actor = DeterministicActor(3, 2, hidden=(8,), init="fan_in", final_bound=3e-3)
        >>> actions = actor(torch.ones(5, 3))
        >>> actions.shape, bool((actions.abs() < 0.1).all())
        (torch.Size([5, 2]), True)

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971 (400-300, final layer 3e-3); Fujimoto et al. 2018,
        arXiv:1802.09477 (256-256 in the published code).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int],
        init: str,
        final_bound: float | None,
        activation: str = "relu",
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Size of the input: a latent, or an observation without an encoder.
            action_dim: A, features of an action.
            hidden: Features of each hidden layer.
            init: ``fan_in`` or ``orthogonal``; see ``ensemble.initialize``.
            final_bound: Output weights are drawn from [-final_bound, final_bound]; 3e-3 in
                Lillicrap et al. None: they are drawn as ``init`` says.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.

        Raises:
            ValueError: If a size or an option is invalid.
        """
        super().__init__()
        self.layers = _layers(latent_dim, hidden, action_dim, activation, init, final_bound)

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to actions [N, A] in [-1, 1]."""
        return self.before_tanh(latent).tanh()

    def before_tanh(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to [N, A]; the tanh of the result is the action."""
        return self.layers(latent)


class SquashedGaussianActor(nn.Module):
    """Linear layers to the mean and the standard deviation of a Gaussian before a tanh.

    The caller applies the tanh: ``rlssl.losses.squashed_gaussian_sample``. The deterministic action
    is ``mean.tanh()``. The logarithm of the standard deviation is bounded by a clamp, or by
    ``low + 0.5 * (high - low) * (tanh(x) + 1)``, which has a gradient everywhere.

    Example:
        >>> import torch
        >>> actor = SquashedGaussianActor(
        ...     3, 2, hidden=(8,), log_std_bounds=(-10.0, 2.0), log_std_mode="tanh", init="fan_in"
        ... )
        >>> mean, log_std = actor(torch.ones(5, 3))
        >>> mean.shape, log_std.shape
        (torch.Size([5, 2]), torch.Size([5, 2]))

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905 (clamp to [-20, 2] in published codes); Yarats et
        al. 2019, arXiv:1910.01741, and CURL's code (tanh, [-10, 2]).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int],
        log_std_bounds: tuple[float, float],
        log_std_mode: str,
        init: str,
        final_bound: float | None = None,
        activation: str = "relu",
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Size of the input: a latent, or an observation without an encoder.
            action_dim: A, features of an action.
            hidden: Features of each hidden layer.
            log_std_bounds: Smallest and largest logarithm of the standard deviation, nats.
            log_std_mode: ``clamp`` or ``tanh``.
            init: ``fan_in`` or ``orthogonal``; see ``ensemble.initialize``.
            final_bound: Output weights are drawn from [-final_bound, final_bound]. None: they
                are drawn as ``init`` says.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.

        Raises:
            ValueError: If a size or an option is invalid.
        """
        super().__init__()
        if log_std_mode not in LOG_STD_MODES:
            raise ValueError(
                f"log_std_mode must be one of {list(LOG_STD_MODES)}; got {log_std_mode!r}."
            )
        if not log_std_bounds[0] < log_std_bounds[1]:
            raise ValueError(f"log_std_bounds must ascend; got {log_std_bounds}.")
        check_size("action_dim", action_dim)
        self._low, self._high = log_std_bounds
        self._rescale = log_std_mode == "tanh"
        self.layers = _layers(latent_dim, hidden, 2 * action_dim, activation, init, final_bound)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """[N, latent_dim] to means [N, A], before the tanh, and log_std [N, A], nats."""
        mean, log_std = self.layers(latent).chunk(2, dim=-1)
        if not self._rescale:
            return mean, log_std.clamp(self._low, self._high)
        return mean, self._low + 0.5 * (self._high - self._low) * (log_std.tanh() + 1.0)


class BoundedGaussianActor(nn.Module):
    """Linear layers and a tanh to the mean of a Gaussian, whose deviation is the same everywhere.

    Not squashed: actions at the bounds +-1 have a density, as a data set's actions need. The
    logarithm of the standard deviation is ``low + (high - low) * sigmoid(parameter)``; it starts
    in the middle of its bounds.

    Example:
        >>> actor = BoundedGaussianActor(
        ...     3, 2, hidden=(8,), log_std_bounds=(-5.0, 2.0), init="fan_in"
        ... )
        >>> output = actor(torch.ones(5, 3))
        >>> output.shape, output[0, 2:].tolist()
        (torch.Size([5, 4]), [-1.5, -1.5])

    Source:
        Kostrikov et al. 2021, arXiv:2110.06169, published code (bounds -5 and 2); the sigmoid is
        d3rlpy's.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int],
        log_std_bounds: tuple[float, float],
        init: str,
        activation: str = "relu",
    ) -> None:
        """Builds the layers; see `SquashedGaussianActor` for the arguments.

        Raises:
            ValueError: If a size or an option is invalid.
        """
        super().__init__()
        if not log_std_bounds[0] < log_std_bounds[1]:
            raise ValueError(f"log_std_bounds must ascend; got {log_std_bounds}.")
        self._low, self._high = log_std_bounds
        self.layers = _layers(latent_dim, hidden, action_dim, activation, init, None)
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to [N, 2 * A]: means in [-1, 1], then logarithms of the stds (nats)."""
        mean = self.layers(latent).tanh()
        log_std = self._low + (self._high - self._low) * self.log_std.sigmoid()
        return torch.cat([mean, log_std.expand_as(mean)], dim=-1)


class LogitsActor(nn.Module):
    """Linear layers to the logits of discrete actions.

    Example:
        >>> LogitsActor(3, 4, hidden=(8,), init="fan_in")(torch.ones(5, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        latent_dim: int,
        num_logits: int,
        *,
        hidden: Sequence[int],
        init: str,
        activation: str = "relu",
    ) -> None:
        """Builds the layers; see `SquashedGaussianActor` for the arguments.

        Raises:
            ValueError: If a size or an option is invalid.
        """
        super().__init__()
        self.layers = _layers(latent_dim, hidden, num_logits, activation, init, None)

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to logits [N, num_logits]."""
        return self.layers(latent)


def _layers(
    in_dim: int,
    hidden: Sequence[int],
    out_dim: int,
    activation: str,
    init: str,
    final_bound: float | None,
) -> Layers:
    for name, size in (("latent_dim", in_dim), ("action_dim", out_dim)):
        check_size(name, size)
    sizes = [in_dim, *check_sizes("hidden", hidden), out_dim]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = Linear(fan_in, fan_out)
        is_last = len(layers) == 2 * len(hidden)
        initialize(linear, init, final_bound if is_last else None)
        layers += [linear] if is_last else [linear, make_activation(activation)]
    return Layers(*layers)
