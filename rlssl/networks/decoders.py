"""Decoders: from latents to observations."""

import math

import torch
from torch import Tensor, nn

from rlssl.errors import SpecError
from rlssl.networks.encoders import check_size
from rlssl.networks.layers.initialization import delta_orthogonal_, orthogonal_init
from rlssl.networks.layers.linear import Linear
from rlssl.peers import RowRange


class VectorDecoder(nn.Module):
    """Decodes latents to vectors: Linear, LayerNorm, ReLU, Linear.

    Source:
        Ours; the layers of DBC's reward decoder.
    """

    def __init__(self, latent_dim: int, output_dim: int, *, hidden: int) -> None:
        """Builds the layers with torch's default initialization.

        Args:
            latent_dim: D of a latent.
            output_dim: Features of the vector.
            hidden: Features of the hidden layer.

        Raises:
            ValueError: If a size is not a whole number >= 1.
        """
        super().__init__()
        for name, size in (("latent_dim", latent_dim), ("output_dim", output_dim)):
            check_size(name, size)
        check_size("hidden", hidden)
        self.layers = nn.Sequential(
            Linear(latent_dim, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            Linear(hidden, output_dim),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """[N, D] to [N, output_dim]."""
        return self.layers(latent)


class PixelDecoder(nn.Module):
    """Decodes latents to images: the mirror image of the encoder ``curl``.

    Linear, ReLU, then transposed 3x3 convolutions. The last one has stride 2, the others stride 1.

    Source:
        Yarats et al. 2019, arXiv:1910.01741, published code. Differs: any height and width.
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        *,
        num_layers: int = 4,
        num_filters: int = 32,
    ) -> None:
        """Builds the layers: linear orthogonal, convolutions delta-orthogonal.

        Args:
            latent_dim: D of a latent.
            image_shape: [C, H, W].
            num_layers: Number of convolutions.
            num_filters: Channels of every convolution except the last.

        Raises:
            ValueError: If a size is invalid, or the image is too small for ``num_layers``.
        """
        super().__init__()
        for name, size in (
            ("latent_dim", latent_dim),
            ("num_layers", num_layers),
            ("num_filters", num_filters),
        ):
            check_size(name, size)
        channels, *sides = image_shape
        # Sides of the feature maps behind the encoder's convolutions.
        first = [(side - 3) // 2 + 1 - 2 * (num_layers - 1) for side in sides]
        if min(first) < 1:
            raise ValueError(
                f"image_shape {image_shape} is too small for num_layers={num_layers}: sides must "
                f"have {4 * num_layers - 1} pixels or more."
            )
        self._first_shape = (num_filters, *first)
        self.linear = nn.Sequential(Linear(latent_dim, math.prod(self._first_shape)), nn.ReLU())
        layers: list[nn.Module] = []
        for _ in range(num_layers - 1):
            layers += [nn.ConvTranspose2d(num_filters, num_filters, 3), nn.ReLU()]
        padding = ((sides[0] - 3) % 2, (sides[1] - 3) % 2)
        layers.append(
            nn.ConvTranspose2d(num_filters, channels, 3, stride=2, output_padding=padding)
        )
        self.convolutions = nn.Sequential(*layers)
        orthogonal_init(self.linear, gain=1.0)
        for layer in layers:
            if isinstance(layer, nn.ConvTranspose2d):
                delta_orthogonal_(layer.weight)
                assert layer.bias is not None  # for mypy
                nn.init.zeros_(layer.bias)

    def forward(self, latent: Tensor) -> Tensor:
        """[N, D] to images [N, C, H, W], in the units of ``quantize_pixels``."""
        return self.convolutions(self.linear(latent).unflatten(1, self._first_shape))


def fitting_pixel_decoder(latent_dim: int, image_shape: tuple[int, ...]) -> PixelDecoder:
    """Builds a PixelDecoder with four layers, or with fewer layers if the image is small.

    Args:
        latent_dim: D of a latent.
        image_shape: [C, H, W].

    Raises:
        SpecError: If the image is too small for one layer.
    """
    channels, height, width = image_shape
    num_layers = min(4, (min(height, width) + 1) // 4)
    if num_layers < 1:
        raise SpecError(
            f"images of {height} x {width} pixels are too small for a decoder, which needs 3 x 3. "
            "Leave the decoder out."
        )
    return PixelDecoder(latent_dim, (channels, height, width), num_layers=num_layers)


def quantize_pixels(
    pixels: Tensor,
    *,
    bits: int = 5,
    generator: torch.Generator | None = None,
    rows: RowRange | None = None,
) -> Tensor:
    """Reduces, dithers and centers the levels of images: the targets of a PixelDecoder.

    ``(floor(pixels / 2^(8 - bits)) + U[0, 1)) / 2^bits - 0.5``.

    Args:
        pixels: [N, ...], in [0, 255], any dtype.
        bits: The images get ``2^bits`` levels; from 1 to 8.
        generator: Draws the dither, on the generator's device; None: torch's global generator.
        rows: (first, total) if these N images are a part of a larger batch. The dither is then
            drawn for the whole batch, so that the Learners together draw that of one Learner.

    Returns:
        [N, ...], float, in [-0.5, 0.5).

    Raises:
        ValueError: If ``bits`` is out of range.

    Source:
        Kingma and Dhariwal 2018, arXiv:1807.03039 (Glow), as in the published code of SAC-AE.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be in [1, 8]; got {bits}.")
    levels = (pixels.float() / 2 ** (8 - bits)).floor()
    device = pixels.device if generator is None else generator.device
    first, total = rows or (0, len(pixels))
    shape = (total, *pixels.shape[1:])
    dither = torch.rand(shape, generator=generator, device=device)[first : first + len(pixels)]
    dither = dither.to(pixels.device)
    return (levels + dither) / 2**bits - 0.5
