"""Encoders of images: published sizes, initialization, memory format, errors."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlssl.networks.encoders import Encoder, build_encoder
from rlssl.networks.heads import linear_head
from rlssl.networks.layers.scaling import cast_and_scale
from rlssl.registry import ENCODERS

PIXEL_ENCODERS = ["small_cnn", "nature", "icm", "curl", "data_efficient", "impala"]


def image(*shape: int) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, shape, np.uint8)


def build(name: str, *shape: int, **config: Any) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(image(*shape), name, config)


def pixels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def num_parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_nature_has_1_69_million_parameters_with_its_head() -> None:
    # Convolutions 4*32*8*8 + 32 = 8,224, 32*64*4*4 + 64 = 32,832, 64*64*3*3 + 64 = 36,928. Sides
    # are 84 -> 20 -> 9 -> 7 pixels: the linear layer has 7*7*64*512 + 512 = 1,606,144. Sum:
    # 1,684,128. A head of 6 actions adds 512*6 + 6 = 3,078.
    encoder = build("nature", 4, 84, 84)
    assert num_parameters(encoder) == 1_684_128
    assert num_parameters(encoder, linear_head(512, 6, 0.01)) == 1_687_206


@pytest.mark.parametrize("side, last", [(7, 5), (3, 1), (2, 4)])
def test_small_cnn_has_the_sizes_that_it_is_given(side: int, last: int) -> None:
    # Two 2x2 convolutions shorten a side by 2. Sides of 2 pixels are padded: 2 + 2 - 1 + 2 - 1 = 4.
    options = {"channels": [8, 4], "kernel_size": 2, "hidden": 6, "layer_norm": True}
    encoder: Any = build("small_cnn", side, side, 3, **options)
    convolutions = 3 * 8 * 4 + 8 + 8 * 4 * 4 + 4
    assert num_parameters(encoder) == convolutions + last * last * 4 * 6 + 6 + 2 * 6
    latents = encoder(pixels(5, side, side, 3))
    assert latents.shape == (5, 6) and encoder.output_dim == 6
    torch.testing.assert_close(latents.mean(dim=1), torch.zeros(5), atol=1e-6, rtol=0)


def test_small_cnn_begins_as_its_initialization_says() -> None:
    encoder: Any = build("small_cnn", 7, 7, 3)
    weights = encoder.layers[0].weight.flatten(1)
    torch.testing.assert_close(weights @ weights.T, 2 * torch.eye(16))
    encoder = build("small_cnn", 7, 7, 3, init="fan_in")
    weights, bias = encoder.layers[0].parameters()
    limit = (3 * 3 * 3) ** -0.5
    assert 0.9 * limit < weights.abs().max() <= limit and 0 < bias.abs().max() <= limit


def test_curl_encoder_has_the_published_layers() -> None:
    # 84 -> 41 -> 39 -> 37 -> 35 pixels: 9*32*9 + 32 = 2,624, three times 32*32*9 + 32 = 9,248,
    # 32*35*35*50 + 50 = 1,960,050, and LayerNorm's 2*50: 1,990,518.
    encoder: Any = build("curl", 9, 84, 84)
    kinds = [type(layer).__name__ for layer in encoder.layers]
    assert kinds == ["Conv2d", "ReLU"] * 4 + ["Flatten", "Linear", "LayerNorm"]
    assert num_parameters(encoder) == 1_990_518
    assert encoder.output_dim == 50


def test_curl_encoder_options_change_the_layers() -> None:
    encoder: Any = build("curl", 3, 20, 20, feature_dim=7, num_layers=2, num_filters=4, tanh=True)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0]) for c in convolutions] == [(4, 2), (4, 1)]
    latents = encoder(pixels(5, 3, 20, 20))
    assert latents.shape == (5, 7) and latents.abs().max() < 1
    # Without the tanh, LayerNorm is last: every latent has mean 0.
    plain = build("curl", 3, 20, 20, feature_dim=7)(pixels(5, 3, 20, 20))
    torch.testing.assert_close(plain.mean(1), torch.zeros(5), atol=1e-5, rtol=0)


def test_curl_encoder_starts_delta_orthogonal() -> None:
    encoder: Any = build("curl", 9, 84, 84)
    for layer in encoder.layers:
        if isinstance(layer, nn.Conv2d):
            center = layer.weight.detach()[:, :, 1, 1]
            # Every singular value is the gain of ReLU; weights outside the center are 0.
            singular = torch.linalg.svdvals(center)
            torch.testing.assert_close(singular, torch.full_like(singular, 2**0.5))
            assert layer.weight.count_nonzero() == center.count_nonzero()
            assert layer.bias is not None and not layer.bias.any()
    singular = torch.linalg.svdvals(encoder.layers[-2].weight.detach())
    torch.testing.assert_close(singular, torch.ones(50))


def test_data_efficient_gives_576_features() -> None:
    # 84 -> 16 -> 3 pixels: 3*3*64 = 576. 4*32*25 + 32 + 32*64*25 + 64 = 54,496.
    encoder = build("data_efficient", 4, 84, 84)
    assert encoder.output_dim == 576
    assert num_parameters(encoder) == 54_496
    assert (encoder(pixels(2, 4, 84, 84)) >= 0).all()


def test_impala_has_three_sections_of_two_blocks() -> None:
    # 84 -> 42 -> 21 -> 11 pixels. Convolutions c_in*c_out*9 + c_out: 592 + 4*2,320 (16), 4,640 +
    # 4*9,248 (32), 9,248 + 4*9,248 (32); linear 11*11*32*256 + 256 = 991,488: 1,089,232 in all.
    encoder: Any = build("impala", 4, 84, 84)
    assert num_parameters(encoder) == 1_089_232
    assert encoder.output_dim == 256
    assert build("impala", 3, 20, 20, channels=[8], hidden=10).output_dim == 10


def test_residual_block_of_impala_adds_to_its_input() -> None:
    encoder: Any = build("impala", 3, 20, 20)
    block = next(layer for layer in encoder.layers if hasattr(layer, "second"))
    images = torch.randn(2, 16, 5, 5)
    added = nn.functional.conv2d(images.relu(), block.first.weight, block.first.bias, padding=1)
    added = nn.functional.conv2d(added.relu(), block.second.weight, block.second.bias, padding=1)
    torch.testing.assert_close(block(images), images + added)


@pytest.mark.parametrize("name", PIXEL_ENCODERS)
def test_channels_last_gives_the_same_latents_and_gradients(name: str) -> None:
    results = []
    for channels_last in (False, True):
        encoder: Any = build(name, 4, 42, 42, channels_last=channels_last)
        seen: list[Tensor] = []
        first = next(layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d))
        first.register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append(output))
        latents = encoder(pixels(3, 4, 42, 42))
        latents.square().sum().backward()
        assert seen[0].is_contiguous(memory_format=torch.channels_last) == channels_last
        results.append([latents, *[parameter.grad for parameter in encoder.parameters()]])
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", PIXEL_ENCODERS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_both_layouts_of_an_image_give_the_same_latent(name: str, channels_last: bool) -> None:
    obs = pixels(3, 4, 42, 42)
    chw = build(name, 4, 42, 42, channels_last=channels_last)
    hwc = build(name, 42, 42, 4, channels_last=channels_last)
    torch.testing.assert_close(hwc(obs.permute(0, 2, 3, 1)), chw(obs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PIXEL_ENCODERS)
def test_weights_can_be_loaded_into_the_other_memory_format(name: str) -> None:
    plain, channels_last = (build(name, 4, 42, 42, channels_last=flag) for flag in (False, True))
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.1)
    channels_last.load_state_dict(plain.state_dict())
    obs = pixels(2, 4, 42, 42)
    torch.testing.assert_close(channels_last(obs), plain(obs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["curl", "data_efficient", "impala"])
def test_pixel_encoders_are_registered(name: str) -> None:
    assert issubclass(ENCODERS[name], nn.Module)


@pytest.mark.parametrize("side, name", [(15, "curl"), (25, "data_efficient"), (2, "impala")])
def test_smallest_image_works(side: int, name: str) -> None:
    encoder = build(name, 3, side, side)
    assert encoder(pixels(2, 3, side, side)).shape == (2, encoder.output_dim)


@pytest.mark.parametrize(
    "name, side, config, match",
    [
        ("curl", 14, {}, r"'curl' needs images of 15 pixels.*14 x 14.*Lower 'num_layers'.*small"),
        ("curl", 18, {"num_layers": 5}, "needs images of 19 pixels"),
        ("curl", 20, {"num_layers": 0}, "num_layers must be a whole number >= 1; got 0"),
        ("curl", 20, {"features": 50}, "'features'; did you mean 'feature_dim'"),
        ("data_efficient", 24, {}, "needs images of 25 pixels.*24 x 24.*'small_cnn'"),
        ("impala", 20, {"channels": [16, 0]}, r"channels.*\[16, 0\]"),
        ("impala", 20, {"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
    ],
)
def test_errors_name_the_value_and_the_fix(
    name: str, side: int, config: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        build_encoder(image(3, side, side), name, config)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shift", [0.0, -0.5])
def test_casting_and_scaling_in_one_step_gives_the_same_bits(
    memory_format: torch.memory_format, shift: float
) -> None:
    for images in (pixels(2, 3, 5, 4), pixels(2, 5, 4, 3).permute(0, 3, 1, 2)):
        found = cast_and_scale(images, 1 / 255, shift, memory_format)
        expected = images.to(torch.float32, memory_format=memory_format).mul_(1 / 255).add_(shift)
        assert torch.equal(found, expected)
        assert found.dtype == torch.float32 and found.stride() == expected.stride()
