"""Linear layers with learned noise on their weights, for exploration."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rlssl.networks.layers.linear import linear
from rlssl.old_names import current_value

#: Ways to draw the noise of a layer.
NOISE_KINDS = ("factorized", "independent")


class NoisyLinear(nn.Module):
    """A linear layer with learned noise on its weights and biases.

    ::

        y = (weight_mean + weight_sigma * weight_noise) x + bias_mean + bias_sigma * bias_noise

        factorized:   weight_noise = f(p_out) f(p_in)^T, bias_noise = f(p_out),
                      f(p) = sgn(p) * sqrt(|p|), p standard normal
        independent:  every element standard normal

    Initial means are uniform in +-1/sqrt(in) (factorized) or +-sqrt(3/in) (independent). Initial
    sigmas are ``sigma0 / sqrt(in)``. The noise does not change until ``reset_noise``. Only
    ``use_noise`` decides whether the noise is used; ``train()`` and ``eval()`` have no effect.

    ``state_dict`` contains the noise, but not the generator. If later noise must survive a
    checkpoint, or must differ between copies of a network, pass a generator to ``reset_noise``.

    Example:
        >>> layer = NoisyLinear(4, 3, sigma0=0.5, noise="factorized", bias_sigma_fan="in")
        >>> layer.weight_sigma[0].tolist()
        [0.25, 0.25, 0.25, 0.25]
        >>> set_use_noise(layer, False)
        >>> torch.equal(layer(torch.zeros(1, 4))[0], layer.bias_mean)
        True

    Source:
        Fortunato et al. 2017, arXiv:1706.10295, section 3. Differs: with independent noise, the
        initial sigma of the paper is 0.017 (here ``sigma0 = 0.017 * sqrt(in)``).
    """

    #: factorized: [in + out], f(p_in) and f(p_out); independent: [out * in + out], of weights and
    #: biases.
    noise_values: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sigma0: float,
        noise: str,
        bias_sigma_fan: str,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draws the means and the first noise.

        Args:
            in_features: Features of x.
            out_features: Features of y.
            sigma0: Initial size of the noise; >= 0, no unit. Rainbow: 0.5; published codes often
                use 0.1.
            noise: ``factorized`` (in + out draws) or ``independent`` (in * out + out draws).
            bias_sigma_fan: Initial sigmas of the bias are ``sigma0 / sqrt(in)`` (``in``, the paper)
                or ``sigma0 / sqrt(out)`` (``out``, Kaixhin's Rainbow).
            generator: Draws the noise; None: a new generator, seeded from torch's global generator.

        Raises:
            ValueError: If an option is unknown or ``sigma0 < 0``.
        """
        super().__init__()
        noise = current_value(noise)
        if noise not in NOISE_KINDS:
            raise ValueError(f"noise must be one of {list(NOISE_KINDS)}; got {noise!r}.")
        if bias_sigma_fan not in ("in", "out"):
            raise ValueError(f"bias_sigma_fan must be 'in' or 'out'; got {bias_sigma_fan!r}.")
        if not sigma0 >= 0:
            raise ValueError(f"sigma0 must be >= 0; got {sigma0}.")
        self.in_features, self.out_features, self.noise = in_features, out_features, noise
        #: False: the layer uses only its means.
        self.use_noise = True
        bound = math.sqrt((1 if noise == "factorized" else 3) / in_features)
        bias_fan = in_features if bias_sigma_fan == "in" else out_features
        shape = (out_features, in_features)
        self.weight_mean = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full(shape, sigma0 / math.sqrt(in_features)))
        self.bias_mean = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), sigma0 / math.sqrt(bias_fan)))
        rows = 1 if noise == "factorized" else out_features
        self.register_buffer("noise_values", torch.zeros(rows * in_features + out_features))
        self._generator = generator or _seeded_generator()
        self.reset_noise()

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] to [N, out_features]."""
        if not self.use_noise:
            return linear(x, self.weight_mean, self.bias_mean)
        weight_noise, bias_noise = self._noise()
        # Separate products with means and sigmas need no noisy weights, but they are slower for
        # batches of 32 and more.
        weight = torch.addcmul(self.weight_mean, self.weight_sigma, weight_noise)
        return linear(x, weight, torch.addcmul(self.bias_mean, self.bias_sigma, bias_noise))

    def _noise(self) -> tuple[Tensor, Tensor]:
        """Factors of the sigmas: [out, in] for weights, [out] for biases."""
        weight, bias = self.noise_values.split(
            [len(self.noise_values) - self.out_features, self.out_features]
        )
        if self.noise == "factorized":
            return torch.outer(bias, weight), bias
        return weight.view(self.out_features, self.in_features), bias

    @torch.no_grad()
    def reset_noise(self, generator: torch.Generator | None = None) -> None:
        """Draws new noise. Graphs of earlier forward passes keep the old noise.

        Args:
            generator: On any device; None: the layer's generator.
        """
        generator = generator or self._generator
        drawn = torch.randn(
            self.noise_values.shape, generator=generator, device=generator.device
        ).to(self.noise_values)
        if self.noise == "factorized":
            drawn = drawn.sign().mul_(drawn.abs_().sqrt_())
        # Not in place: the backward pass of an earlier forward pass needs the old tensor.
        self.noise_values = drawn

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_features}, {self.out_features}, noise={self.noise}"


def reset_noise(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draws new noise for all noisy layers of a network.

    Args:
        network: Any module. Without noisy layers, nothing is drawn.
        generator: Draws for all layers in turn; None: each layer uses its generator.
    """
    for layer in noisy_layers(network):
        layer.reset_noise(generator)


def set_use_noise(network: nn.Module, use_noise: bool) -> None:
    """Switches the noise of all noisy layers of a network on or off."""
    for layer in noisy_layers(network):
        layer.use_noise = use_noise


def noisy_layers(network: nn.Module) -> Iterator[NoisyLinear]:
    """Iterates over the noisy layers of a network, each once, including the network itself."""
    return (module for module in network.modules() if isinstance(module, NoisyLinear))


def _seeded_generator() -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))
