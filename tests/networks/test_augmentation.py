"""What the RL loss sees of images: the settings, the draws, crops in acting, bfloat16."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlssl.augmentations import center_crop, intensity, random_crop, random_shift
from rlssl.errors import SpecError
from rlssl.networks.augmentation import Augmentation, build_augmentation, parse_augmentation
from rlssl.networks.encoders import build_encoder
from rlssl.networks.rl_encoder import build_rl_encoder

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
    """The encoder of the settings with the same weights at every call."""
    torch.manual_seed(3)
    return build_rl_encoder(space, settings(**given))


def test_steps_are_applied_in_their_order_with_one_draw_each() -> None:
    setting = {"shift": {"pad": 3}, "crop": {"size": 36}, "intensity": {"scale": 0.5}}
    augmentation = Augmentation(parse_augmentation(setting), "CHW", seed=5)
    generator = augmentation.update_rng.generator()
    expected = random_shift(images(), 3, generator)
    expected = intensity(random_crop(expected, 36, generator), 0.5, generator)
    assert torch.equal(augmentation(images()), expected)


def test_draws_change_with_every_update_and_come_back_with_the_state() -> None:
    augmentation = Augmentation(parse_augmentation("shift"), "CHW", seed=5)
    first = augmentation(images())
    assert torch.equal(augmentation(images()), first)
    augmentation.after_update()
    second = augmentation(images())
    assert not torch.equal(second, first)
    restored = Augmentation(parse_augmentation("shift"), "CHW", seed=6)
    restored.load_state_dict(augmentation.state_dict())
    assert torch.equal(restored(images()), second)


def test_channels_last_images_are_augmented_as_channels_first_ones() -> None:
    steps = parse_augmentation({"crop": {"size": 36}, "shift": None})
    chw = Augmentation(steps, "CHW", seed=1)(images())
    hwc = Augmentation(steps, "HWC", seed=1)(images().permute(0, 2, 3, 1))
    assert hwc.shape == (6, 36, 36, 3)
    assert torch.equal(hwc.permute(0, 3, 1, 2), chw)


@pytest.mark.parametrize("space", [CHW, HWC], ids=["chw", "hwc"])
def test_encoder_of_crops_takes_crops_as_they_are_and_the_middle_of_the_rest(space: Any) -> None:
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


def test_encoder_is_the_plain_one_where_nothing_asks_for_more() -> None:
    assert type(encoder_like(CHW, augmentation="shift")) is type(build_encoder(CHW))


def test_bfloat16_is_near_float32_and_its_latents_and_gradients_are_float32() -> None:
    exact, rounded = encoder_like(CHW), encoder_like(CHW, precision="bfloat16")
    latents = rounded(images())
    assert latents.dtype == torch.float32
    difference = (latents - exact(images())).abs().max() / exact(images()).abs().max()
    # bfloat16 has 8 bits of mantissa: 2^-8 = 0.004 an operation; and it must not be float32.
    assert 1e-5 < difference < 0.05
    latents.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in rounded.parameters())


@pytest.mark.parametrize(
    "setting, message",
    [
        ("shfit", "unknown augmentation 'model.augmentation.shfit'; did you mean 'shift'"),
        ({"crop": {"pad": 4}}, "model.augmentation.crop takes {size: ...}; got {'pad': 4}."),
        ({"crop": {"size": 0}}, "model.augmentation.crop.size must be >= 1 pixels; got 0."),
        ({"shift": {"pad": 1.5}}, "model.augmentation.shift.pad must be >= 0; got 1.5."),
        ({"shift": {"pad": True}}, "model.augmentation.shift.pad must be >= 0; got True."),
        (4, "model.augmentation must be a name or a mapping; got 4."),
    ],
)
def test_wrong_settings_are_refused_with_key_and_value(setting: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_augmentation(setting)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "space, setting, message",
    [
        (gym.spaces.Box(0, 1, (4,)), "crop", "model.augmentation.crop needs images"),
        (gym.spaces.Box(0, 1, (4,)), "shift", "model.augmentation needs images"),
        (CHW, {"crop": {"size": 41}}, "crop.size must be at most the side of the images"),
    ],
)
def test_spaces_that_cannot_be_augmented_are_refused(
    space: gym.Space, setting: Any, message: str
) -> None:
    given = settings(augmentation=setting)
    with pytest.raises(SpecError, match=message):
        build_augmentation(space, given, build_rl_encoder(space, given), seed=0)
