"""Decoders: shapes for any image size, fitting an image, quantized target images."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlssl.networks.decoders import PixelDecoder, VectorDecoder, quantize_pixels
from rlssl.networks.encoders import build_encoder


def test_vectors() -> None:
    assert VectorDecoder(6, 11, hidden=16)(torch.randn(5, 6)).shape == (5, 11)
    with pytest.raises(ValueError, match="output_dim must be a whole number >= 1; got 0"):
        VectorDecoder(6, 0, hidden=16)


@pytest.mark.parametrize("shape", [(3, 84, 84), (9, 84, 84), (1, 64, 48), (2, 25, 30)])
@pytest.mark.parametrize("num_layers", [2, 4])
def test_latents_of_the_encoder_are_decoded_to_images_of_any_size(
    shape: tuple[int, int, int], num_layers: int
) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    config = {"num_layers": num_layers, "num_filters": 4, "layout": "CHW"}
    latent = build_encoder(space, "curl", config)(torch.zeros(2, *shape, dtype=torch.uint8))
    decoder = PixelDecoder(latent.shape[1], shape, num_layers=num_layers, num_filters=4)
    assert decoder(latent).shape == (2, *shape)


def test_first_maps_of_the_decoder_have_the_size_of_the_last_maps_of_the_encoder() -> None:
    # 84 x 84 pixels: 41 after the convolution with stride 2, then 39, 37, 35.
    decoder = PixelDecoder(50, (9, 84, 84))
    assert decoder.linear(torch.zeros(1, 50)).shape == (1, 32 * 35 * 35)


def test_error_for_a_too_small_image_names_the_smallest_side() -> None:
    with pytest.raises(ValueError, match="15 pixels or more"):
        PixelDecoder(50, (3, 14, 84))
    PixelDecoder(50, (3, 15, 84))


def test_decoder_can_be_fitted_to_an_image() -> None:
    torch.manual_seed(0)
    target = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    decoder, latent = PixelDecoder(4, (1, 16, 16), num_layers=2, num_filters=8), torch.ones(1, 4)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        loss = (decoder(latent) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The loss of the best constant image is the variance 0.083: about the first loss.
    assert losses[-1] < 0.25 * losses[0]


def test_quantized_pixels_by_hand() -> None:
    # 5 bits: a level has 8 values. 0 -> 0, 7 -> 0, 8 -> 1, 255 -> 31. The dither adds less than
    # one level, 1/32.
    pixels = torch.tensor([0, 7, 8, 255], dtype=torch.uint8).repeat(1000, 1)
    values = quantize_pixels(pixels, generator=torch.Generator().manual_seed(0))
    low = torch.tensor([0.0, 0.0, 1.0, 31.0]) / 32 - 0.5
    assert (values >= low).all() and (values <= low + 1 / 32 + 1e-6).all()
    # The dither is uniform: its mean is half a level.
    torch.testing.assert_close(values.mean(dim=0), low + 0.5 / 32, rtol=0, atol=1e-3)
    coarse = quantize_pixels(pixels, bits=1)
    assert (coarse[:, :3] < 0).all() and (coarse[:, 3] >= 0).all()


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"bits must be in \[1, 8\]; got {bits}"):
        quantize_pixels(torch.zeros(1), bits=bits)
