"""Augmentation of the RL loss's images: settings, draws, layouts, errors."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rlssl.augmentations import intensity, random_crop, random_shift
from rlssl.errors import SpecError
from rlssl.networks.augmentation import Augmentation, build_augmentation, parse_augmentation
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


def test_steps_are_applied_in_order_with_one_draw_each() -> None:
    setting = {"shift": {"pad": 3}, "crop": {"size": 36}, "intensity": {"scale": 0.5}}
    augmentation = Augmentation(parse_augmentation(setting), "CHW", seed=5)
    generator = augmentation.update_rng.generator()
    expected = random_shift(images(), 3, generator)
    expected = intensity(random_crop(expected, 36, generator), 0.5, generator)
    assert torch.equal(augmentation(images()), expected)


def test_draws_change_with_every_update_and_are_restored_with_the_state() -> None:
    augmentation = Augmentation(parse_augmentation("shift"), "CHW", seed=5)
    first = augmentation(images())
    assert torch.equal(augmentation(images()), first)
    augmentation.after_update()
    second = augmentation(images())
    assert not torch.equal(second, first)
    restored = Augmentation(parse_augmentation("shift"), "CHW", seed=6)
    restored.load_state_dict(augmentation.state_dict())
    assert torch.equal(restored(images()), second)


def test_both_layouts_of_images_are_augmented_equally() -> None:
    steps = parse_augmentation({"crop": {"size": 36}, "shift": None})
    chw = Augmentation(steps, "CHW", seed=1)(images())
    hwc = Augmentation(steps, "HWC", seed=1)(images().permute(0, 2, 3, 1))
    assert hwc.shape == (6, 36, 36, 3)
    assert torch.equal(hwc.permute(0, 3, 1, 2), chw)


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
def test_error_for_a_wrong_setting_names_key_and_value(setting: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_augmentation(setting)
    assert message in str(error.value)


def test_spaces_that_cannot_be_augmented_are_refused() -> None:
    space, given = gym.spaces.Box(0, 1, (4,)), settings(augmentation="shift")
    with pytest.raises(SpecError, match=r"model\.augmentation needs images"):
        build_augmentation(space, given, build_rl_encoder(space, given), seed=0)


def test_augmentation_is_none_without_a_setting_and_has_the_layout_of_the_images() -> None:
    for space, layout in ((CHW, "CHW"), (HWC, "HWC")):
        given = settings(augmentation="shift")
        encoder = build_rl_encoder(space, given)
        built = build_augmentation(space, given, encoder, seed=0)
        assert built is not None and built.layout == layout
        assert build_augmentation(space, settings(), encoder, seed=0) is None
