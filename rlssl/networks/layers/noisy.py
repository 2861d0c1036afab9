"""Linear layers whose weights are noisy, so that what is explored is learned."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rlssl.networks.layers.linear import linear
from rlssl.old_names import current_value

#: How the noise of a layer is drawn.
NOISE_KINDS = ("factorized", "independent")


class NoisyLinear(nn.Module):
    """A linear layer with learned noise on its weights and biases.

    ::

        y = (weight_mean + weight_sigma * weight_noise) x + bias_mean + bias_sigma * bias_noise

        factorized:   weight_noise = f(p_out) f(p_in)^T, bias_noise = f(p_out),
                      f(p) = sgn(p) * sqrt(|p|), p standard normal
        independent:  every element standard normal

    At the start means are uniform in +-1/sqrt(in) (factorized) or +-sqrt(3/in) (independent), and
    sigmas constant, ``sigma0 / sqrt(in)``. The noise stays as it is until ``reset_noise``.
    Whether it is used is decided by ``use_noise`` alone, whatever ``train()`` and ``eval()`` say.

    The noise is in ``state_dict``; the generator is not. Where the noise to come must survive a
    checkpoint, or differ between copies of a network, ``reset_noise`` is given a generator.

    Source:
        Fortunato et al. 2017, arXiv:1706.10295, section 3. Differs: with independent noise the
        paper starts at a sigma of 0.017 (here ``sigma0 = 0.017 * sqrt(in)``).
    """

    #: [in + out], f(p_in) and f(p_out); or [out * in + out], of weights and biases.
    noise_values: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sigma0: float = 0.5,
        noise: str = "factorized",
        bias_sigma_fan: str = "in",
        generator: torch.Generator | None = None,
    ) -> None:
        """Draws the means, and the first noise.

        Args:
            in_features: Features of x.
            out_features: Features of y.
            sigma0: Noise at the start; >= 0, no unit. Rainbow: 0.5; published codes often 0.1.
            noise: ``factorized`` (in + out draws) or ``independent`` (in * out draws).
            bias_sigma_fan: Bias sigmas start at ``sigma0 / sqrt(in)`` (``in``, the paper) or
                ``sigma0 / sqrt(out)`` (``out``, Kaixhin's Rainbow).
            generator: Draws the noise; None: one of this layer's own, seeded from torch's global
                generator.

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
        #: False: the layer computes with its means alone.
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
        # Two products with x, of means and of sigmas, need no noisy weights, but are slower from a
        # batch of 32 on.
        weight = torch.addcmul(self.weight_mean, self.weight_sigma, weight_noise)
        return linear(x, weight, torch.addcmul(self.bias_mean, self.bias_sigma, bias_noise))

    def _noise(self) -> tuple[Tensor, Tensor]:
        """[out, in] and [out]: what the sigmas are multiplied by."""
        first, bias = self.noise_values.split(
            [len(self.noise_values) - self.out_features, self.out_features]
        )
        if self.noise == "factorized":
            return torch.outer(bias, first), bias
        return first.view(self.out_features, self.in_features), bias

    @torch.no_grad()
    def reset_noise(self, generator: torch.Generator | None = None) -> None:
        """Draws the noise anew. Graphs of earlier passes keep theirs.

        Args:
            generator: On any device; None: the layer's own.
        """
        generator = generator or self._generator
        drawn = torch.randn(
            self.noise_values.shape, generator=generator, device=generator.device
        ).to(self.noise_values)
        if self.noise == "factorized":
            drawn = drawn.sign().mul_(drawn.abs_().sqrt_())
        # A new tensor: backward of an earlier pass needs the old one.
        self.noise_values = drawn

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_features}, {self.out_features}, noise={self.noise}"


def reset_noise(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draws the noise of all noisy layers of a network anew.

    Args:
        network: Any module; without noisy layers nothing is drawn.
        generator: For all layers, one after the other; None: each layer's own.
    """
    for layer in noisy_layers(network):
        layer.reset_noise(generator)


def set_use_noise(network: nn.Module, use_noise: bool) -> None:
    """Switches the noise of all noisy layers of a network on, or off: means alone."""
    for layer in noisy_layers(network):
        layer.use_noise = use_noise


def noisy_layers(network: nn.Module) -> Iterator[NoisyLinear]:
    """The noisy layers of a network, itself included, each once."""
    return (module for module in network.modules() if isinstance(module, NoisyLinear))


def _seeded_generator() -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))
