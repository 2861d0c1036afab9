"""Encoders: from any space to [N, output_dim], and the inputs of the first layer."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor, nn

from rlssl.networks.encoders import (
    DictEncoder,
    build_encoder,
    default_encoder_name,
    image_layout,
    one_hot,
)
from rlssl.registry import ENCODERS, register_encoder

BUILT_IN = ["mlp", "small_cnn", "nature", "icm", "dict"]


def box(*shape: int, low: float = -1.0, high: float = 1.0, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


def image(*shape: int) -> spaces.Box:
    return box(*shape, low=0, high=255, dtype=np.uint8)


def observations(space: spaces.Space) -> Any:
    """Five elements of a space, as tensors with the dtypes of the space."""
    batched = batch_space(space, 5)
    batched.seed(0)

    def as_tensors(sample: Any) -> Any:
        if isinstance(sample, dict):
            return {key: as_tensors(part) for key, part in sample.items()}
        if isinstance(sample, tuple):
            return tuple(as_tensors(part) for part in sample)
        return torch.as_tensor(sample)

    return as_tensors(batched.sample())


def seen_by_first_layer(encoder: nn.Module, obs: Tensor) -> Tensor:
    """The input of the first layer with weights."""
    layers = [m for m in encoder.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    seen: list[Tensor] = []
    layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(obs)
    return seen[0]


SPACES = {
    "vector": box(4),
    "number": box(),
    "integer vector": box(4, low=0, high=9, dtype=np.int64),
    "float64 vector": box(4, dtype=np.float64),
    "discrete": spaces.Discrete(5, start=2),
    "multi-discrete": spaces.MultiDiscrete([3, 2], start=[1, -1]),
    "multi-binary": spaces.MultiBinary(6),
    "MiniGrid planes": image(20, 7, 7),
    "MinAtar": box(10, 10, 4, low=0, high=1, dtype=bool),
    "stacked MinAtar": image(10, 10, 16),
    "smallest grid": image(3, 3, 3),
    "grid with valid convolutions": image(5, 5, 2),
    "Atari": image(4, 84, 84),
    "smallest for nature": image(36, 36, 3),
    "one pixel below": image(35, 35, 3),
    "dict": spaces.Dict({"im.age": image(7, 7, 3), "heading": spaces.Discrete(4)}),
    "nested": spaces.Tuple([box(2), spaces.Dict({"a": spaces.Discrete(2), "b": box(3)})]),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_default_encoder_maps_raw_batches_to_latents(space: spaces.Space) -> None:
    encoder = build_encoder(space)
    latent = encoder(observations(space))
    assert latent.shape == (5, encoder.output_dim)
    assert latent.dtype == torch.float32
    assert latent.std(dim=0).max() > 0  # rows differ: the encoder reads the observation


@pytest.mark.parametrize(
    "name, expected",
    [
        ("vector", "mlp"),
        ("number", "mlp"),
        ("multi-binary", "mlp"),
        ("MiniGrid planes", "small_cnn"),
        ("one pixel below", "small_cnn"),
        ("smallest for nature", "nature"),
        ("nested", "dict"),
    ],
)
def test_default_name(name: str, expected: str) -> None:
    assert default_encoder_name(SPACES[name]) == expected


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_encoders_are_registered(name: str) -> None:
    assert issubclass(ENCODERS[name], nn.Module)


@pytest.mark.parametrize(
    "name, shape, output_dim",
    [
        ("icm", (42, 42, 4), 288),  # 42 -> 21 -> 11 -> 6 -> 3 pixels; 3 * 3 * 32 = 288
        ("icm", (4, 84, 84), 1152),  # 84 -> 42 -> 21 -> 11 -> 6; 6 * 6 * 32 = 1152
        ("nature", (4, 84, 84), 512),
        ("small_cnn", (4, 10, 10), 128),
        ("mlp", (7, 7, 3), 64),
    ],
)
def test_output_dim_of_named_image_encoders(
    name: str, shape: tuple[int, ...], output_dim: int
) -> None:
    encoder = build_encoder(image(*shape), name)
    assert encoder.output_dim == output_dim
    assert encoder(observations(image(*shape))).shape == (5, output_dim)


def test_icm_pads_even_sides_only_at_the_far_end() -> None:
    # TensorFlow's SAME padding at stride 2: windows of a 42 x 42 image start at pixel 0, so the
    # first output reads pixels 0 to 2 and no padding.
    encoder = build_encoder(image(42, 42, 1), "icm")
    padded = seen_by_first_layer(encoder, torch.full((1, 42, 42, 1), 255, dtype=torch.uint8))
    assert padded.shape == (1, 1, 43, 43)
    assert padded[0, 0, 0, 0] == 1 and padded[0, 0, 42, 42] == 0


@pytest.mark.parametrize(
    "shape, layout",
    [
        ((3, 84, 84), "CHW"),
        ((84, 84, 3), "HWC"),
        ((80, 7, 7), "CHW"),  # four stacked frames of 20 planes: more channels than pixels
        ((10, 10, 16), "HWC"),
        ((3, 120, 160), "CHW"),
        ((120, 160, 3), "HWC"),
        ((3, 3, 3), "CHW"),
    ],
)
def test_layout_of_images(shape: tuple[int, ...], layout: str) -> None:
    assert image_layout(image(*shape)) == layout


def test_both_layouts_of_the_same_image_give_the_same_latent() -> None:
    obs = observations(image(6, 6, 3))
    torch.manual_seed(0)
    channels_last = build_encoder(image(6, 6, 3))
    torch.manual_seed(0)
    channels_first = build_encoder(image(3, 6, 6))
    torch.testing.assert_close(channels_last(obs), channels_first(obs.permute(0, 3, 1, 2)))


def test_layout_can_be_given_if_the_guess_is_wrong() -> None:
    space = image(10, 12, 16)  # four stacked frames of 4 channels
    assert seen_by_first_layer(
        build_encoder(space, config={"layout": "HWC"}), observations(space)
    ).shape == (5, 16, 10, 12)


def test_integer_images_are_scaled_by_the_largest_value() -> None:
    space = box(4, 6, 6, low=0, high=10, dtype=np.int16)
    obs = torch.full((2, 4, 6, 6), 5, dtype=torch.int16)
    for name in ("small_cnn", "mlp"):
        seen = seen_by_first_layer(build_encoder(space, name), obs)
        assert (seen == 0.5).all()  # 5 / 10


def test_floating_images_and_integer_vectors_are_not_scaled() -> None:
    for space, obs in (
        (box(3, 6, 6, high=255.0), torch.full((2, 3, 6, 6), 5.0)),
        (box(4, low=0, high=10, dtype=np.int64), torch.full((2, 4), 5)),
    ):
        assert (seen_by_first_layer(build_encoder(space), obs) == 5).all()


def test_one_hot_counts_from_start_and_places_parts_side_by_side() -> None:
    coded = one_hot(torch.tensor([3, 5]), spaces.Discrete(3, start=3))
    assert coded.tolist() == [[1, 0, 0], [0, 0, 1]]
    parts = spaces.MultiDiscrete([2, 3], start=[0, 4])
    coded = one_hot(torch.tensor([[1, 4], [0, 6]]), parts)
    assert coded.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


@pytest.mark.parametrize("name", ["vector", "Atari", "dict"])
def test_layers_start_orthogonal_with_zero_bias(name: str) -> None:
    for layer in build_encoder(SPACES[name]).modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            # All singular values are the gain, sqrt 2.
            singular = torch.linalg.svdvals(layer.weight.detach().flatten(1))
            torch.testing.assert_close(singular, torch.full_like(singular, 2**0.5))
            assert layer.bias is not None and not layer.bias.any()


def test_config_reaches_the_encoder() -> None:
    encoder = build_encoder(box(4), config={"hidden": [32, 16], "activation": "relu"})
    kinds = [type(m).__name__ for m in encoder.modules() if not list(m.children())]
    assert kinds == ["Linear", "ReLU", "Linear", "ReLU"]
    assert encoder.output_dim == 16


def test_dict_config_can_name_encoders_for_some_keys() -> None:
    space = spaces.Dict({"rgb": image(42, 42, 3), "speed": box(2)})
    encoders = {"rgb": {"name": "icm"}, "speed": {"config": {"hidden": [8]}}}
    encoder = build_encoder(space, config={"hidden": 32, "encoders": encoders})
    assert isinstance(encoder, DictEncoder)
    assert [part.output_dim for part in encoder.encoders] == [288, 8]
    assert encoder.output_dim == 32


def test_dict_encoder_does_not_depend_on_the_order_of_keys() -> None:
    encoder = DictEncoder(spaces.Dict({"a": box(2), "b": box(2)}))
    obs = observations(spaces.Dict({"a": box(2), "b": box(2)}))
    reordered = {"b": obs["b"], "a": obs["a"]}
    torch.testing.assert_close(encoder(reordered), encoder(obs))


@pytest.mark.parametrize(
    "space, name, config, match",
    [
        (box(21, 79), None, None, r"\(21, 79\).*FlattenObservation.*'mlp'"),
        (spaces.Text(5), None, None, "Text"),
        (spaces.Text(5), "mlp", None, "cannot be flattened"),
        (box(4), "nature", None, "three dimensions.*'mlp'"),
        (image(35, 64, 3), "nature", None, "35 x 64.*'small_cnn'"),
        (box(4), "mpl", None, "'mpl'.*mlp"),
        (box(4), "mlp", {"hiden": [4]}, "config key of encoder 'mlp': 'hiden'.*'hidden'"),
        (box(4), "mlp", {"hidden": [0]}, r"hidden.*\[0\]"),
        (box(4), "mlp", {"hidden": 64}, "hidden.*64"),
        (box(4), "mlp", {"activation": "tahn"}, "'tahn'; did you mean 'tanh'"),
        (box(4), "mlp", {"init": "fan_out"}, "init must be orthogonal or fan_in; got 'fan_out'"),
        (image(8, 8, 3), "small_cnn", {"layout": "WHC"}, "'WHC'"),
        (image(8, 8, 3), "small_cnn", {"channels": 16}, "channels must list.*16"),
        (image(8, 8, 3), "small_cnn", {"kernel_size": 4}, "kernel_size.*2 or 3.*4"),
        (image(8, 8, 3), "small_cnn", {"init": "zeros"}, "orthogonal or fan_in.*'zeros'"),
        (box(4), "dict", None, "Dict or Tuple"),
        (SPACES["dict"], "dict", {"hidden": [256]}, r"hidden.*\[256\]"),
        (SPACES["dict"], "dict", {"encoders": {"headin": {}}}, "'headin'; did you mean 'heading'"),
        (SPACES["dict"], "dict", {"encoders": {"heading": {"nme": "mlp"}}}, "'nme'.*'name'"),
        (spaces.Dict({"mission": spaces.Text(5)}), None, None, "key 'mission'"),
        (box(6, 6, 3, low=0, high=2**31 - 1, dtype=np.int32), None, None, "scaled by 1 / high"),
    ],
)
def test_errors_name_the_value_and_the_fix(
    space: spaces.Space, name: str | None, config: dict[str, Any] | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        build_encoder(space, name, config)


def test_registered_encoder_without_output_dim_is_refused() -> None:
    register_encoder("identity_of_a_test", "torch.nn:Identity")
    with pytest.raises(ValueError, match=r"'identity_of_a_test' has no integer .* 'output_dim'"):
        build_encoder(box(4), "identity_of_a_test")
