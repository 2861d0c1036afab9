"""The encoder of the RL loss: crops, bfloat16."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlssl.augmentations import center_crop
from rlssl.errors import SpecError
from rlssl.networks.encoders import build_encoder
from rlssl.networks.rl_encoder import build_rl_encoder, crop_size

CHW = gym.spaces.Box(0, 255, (3, 40, 40), np.uint8)
HWC = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)


def images(space: gym.Space = CHW, num: int = 6) -> Tensor:
    space.seed(0)
    return torch.as_tensor(np.stack([space.sample() for _ in range(num)]))


def settings(**given: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "encoder": None,
        "encoder_config": {},
        "augmentation": None,
        "precision": None,
    }
    return {**defaults, **given}


def encoder_like(space: gym.Space, **given: Any) -> Any:
    """Builds the encoder of the settings, with the same weights at every call."""
    torch.manual_seed(3)
    return build_rl_encoder(space, settings(**given))


@pytest.mark.parametrize("space", [CHW, HWC], ids=["chw", "hwc"])
def test_encoder_of_crops_center_crops_larger_images(space: Any) -> None:
    encoder = encoder_like(space, augmentation={"crop": {"size": 36}})
    raw = images(space)
    axes = (0, 1, 2, 3) if space is CHW else (0, 3, 1, 2)
    back = (0, 1, 2, 3) if space is CHW else (0, 2, 3, 1)
    middle = center_crop(raw.permute(axes), 36).permute(back)
    assert torch.equal(encoder(raw), encoder(middle))
    torch.manual_seed(3)
    plain = build_encoder(gym.spaces.Box(0, 255, tuple(middle.shape[1:]), np.uint8))
    assert torch.equal(plain(middle), encoder(raw))
    assert encoder.output_dim == plain.output_dim


def test_without_a_crop_and_a_precision_the_encoder_is_not_wrapped() -> None:
    assert type(encoder_like(CHW, augmentation="shift")) is type(build_encoder(CHW))


def test_bfloat16_is_close_to_float32_and_latents_and_gradients_are_float32() -> None:
    exact, rounded = encoder_like(CHW), encoder_like(CHW, precision="bfloat16")
    latents = rounded(images())
    assert latents.dtype == torch.float32
    difference = (latents - exact(images())).abs().max() / exact(images()).abs().max()
    # bfloat16 has 8 bits of mantissa: an error of 2^-8 = 0.004 per operation. It is not float32,
    # so the difference is not 0.
    assert 1e-5 < difference < 0.05
    latents.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in rounded.parameters())


def test_crop_size_is_read_from_the_augmentation() -> None:
    assert crop_size({"shift": None, "crop": {"size": 36}}) == 36
    assert crop_size("crop") == 84
    assert crop_size("shift") is None and crop_size(None) is None


@pytest.mark.parametrize(
    "space, setting, message",
    [
        (gym.spaces.Box(0, 1, (4,)), "crop", "model.augmentation.crop needs images"),
        (CHW, {"crop": {"size": 41}}, "crop.size must be at most the side of the images"),
    ],
)
def test_spaces_that_cannot_be_cropped_are_refused(
    space: gym.Space, setting: Any, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        build_rl_encoder(space, settings(augmentation=setting))
