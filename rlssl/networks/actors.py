"""Actors of continuous actions: deterministic, or a Gaussian squashed by a tanh."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from rlssl.networks.encoders import check_size, check_sizes, make_activation
from rlssl.networks.layers.ensemble import initialize
from rlssl.networks.layers.linear import Layers, Linear

#: How the logarithm of a deviation is kept within its bounds.
LOG_STD_MODES = ("clamp", "tanh")


class DeterministicActor(nn.Module):
    """Linear layers and a tanh: one action a latent.

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971 (400-300, final layer 3e-3); Fujimoto et al. 2018,
        arXiv:1802.09477 (256-256 in the published code).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        init: str = "fan_in",
        final_bound: float | None = None,
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Features of a latent, or of an observation.
            action_dim: A, features of an action.
            hidden: Features of each hidden layer.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.
            init: ``fan_in`` or ``orthogonal``; see ``ensemble.initialize``.
            final_bound: The output layer is uniform in +-this; Lillicrap: 3e-3; None: as ``init``.

        Raises:
            ValueError: If a size or an option does not suit.
        """
        super().__init__()
        self.layers = _layers(latent_dim, hidden, action_dim, activation, init, final_bound)

    def forward(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to actions [N, A] in [-1, 1]."""
        return self.before_tanh(latent).tanh()

    def before_tanh(self, latent: Tensor) -> Tensor:
        """[N, latent_dim] to [N, A], whose tanh the actions are."""
        return self.layers(latent)


class SquashedGaussianActor(nn.Module):
    """Linear layers to the mean and the deviation of a Gaussian, which a tanh squashes.

    The tanh is left to who draws: ``rlssl.losses.squashed_gaussian_sample``. The deterministic
    action is ``mean.tanh()``. Logarithms of deviations are bounded by a clamp, or by
    ``low + 0.5 * (high - low) * (tanh(x) + 1)``, which has a gradient everywhere.

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905 (clamp to [-20, 2] in published codes); Yarats et
        al. 2019, arXiv:1910.01741, and CURL's code (tanh, [-10, 2]).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        log_std_bounds: tuple[float, float] = (-20.0, 2.0),
        log_std_mode: str = "clamp",
        init: str = "fan_in",
        final_bound: float | None = None,
    ) -> None:
        """Builds the layers.

        Args:
            latent_dim: Features of a latent, or of an observation.
            action_dim: A, features of an action.
            hidden: Features of each hidden layer.
            activation: After every hidden layer; a key of ``encoders.ACTIVATIONS``.
            log_std_bounds: Least and largest logarithm of a deviation, nats.
            log_std_mode: ``clamp`` or ``tanh``.
            init: ``fan_in`` or ``orthogonal``; see ``ensemble.initialize``.
            final_bound: The output layer is uniform in +-this; None: as ``init``.

        Raises:
            ValueError: If a size or an option does not suit.
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
