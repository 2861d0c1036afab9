"""Random views: layouts, sizes, the noise on vectors, and spaces without views."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlssl.auxiliary.views import ImageViews, NoisyViews, Views, make_views
from rlssl.errors import SpecError
from rlssl.networks import build_encoder
from tests.auxiliary.latents import VECTOR, sample

FRAMES = gym.spaces.Box(0, 255, (4, 20, 20), np.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views_for(space: gym.Space, encoder: Any = None, **options: Any) -> Views:
    return make_views(
        space,
        build_encoder(space) if encoder is None else encoder,
        **{"pad": None, "crop": None, "crop_first": False, "noise": 0.1, **options},
    )


def test_views_of_hwc_images_equal_views_of_chw_images() -> None:
    obs = sample(FRAMES)
    cases: list[dict[str, Any]] = [{}, {"crop": 12}, {"crop_first": True}]
    for options in cases:
        chw = ImageViews("CHW", pad=2, **options)(obs, seeded())
        hwc = ImageViews("HWC", pad=2, **options)(obs.permute(0, 2, 3, 1), seeded())
        assert hwc.dtype == torch.uint8
        assert torch.equal(hwc.permute(0, 3, 1, 2), chw)


def test_views_take_the_layout_of_the_encoder() -> None:
    space = gym.spaces.Box(0, 255, (10, 12, 16), np.uint8)
    views: Any = views_for(space, build_encoder(space, config={"layout": "HWC"}))
    assert views.layout == "HWC"


@pytest.mark.parametrize(
    "side, pad", [(84, 4), (100, 4), (64, 3), (42, 2), (20, 1), (10, 1), (5, 1)]
)
def test_shift_is_4_of_84_pixels_in_proportion(side: int, pad: int) -> None:
    views: Any = views_for(gym.spaces.Box(0, 255, (3, side, side), np.uint8))
    assert views.pad == pad


def test_noise_is_a_tenth_of_the_running_std_of_each_element() -> None:
    views = NoisyViews((3,), noise=0.1)
    scales = torch.tensor([1.0, 20.0, 0.0])
    rows = torch.randn(4000, 3, generator=seeded()) * scales + 5.0
    for number in range(2):  # first with the std of the batch, then with the running std
        noise = views(rows, seeded(1)) - rows
        torch.testing.assert_close(noise.std(0), 0.1 * scales, rtol=0.05, atol=1e-6)
        assert noise.mean(0).abs().max() < 0.1
        views.after_update(number)
    assert views.moments.count == 2 * 4000
    quiet = views(rows / 1000, seeded(1)) - rows / 1000
    torch.testing.assert_close(quiet.std(0), 0.1 * scales, rtol=0.05, atol=1e-6)


def test_running_std_is_refreshed_in_the_first_updates_and_then_in_every_sixteenth() -> None:
    views = NoisyViews((3,), noise=0.1)
    counts = []
    for number in range(50):
        before = int(views.moments.count)
        views(torch.randn(2, 3), seeded())
        views.after_update(number)
        counts.append(int(views.moments.count) - before)
    assert counts == [2] * 17 + ([0] * 15 + [2]) * 2 + [0]


@pytest.mark.parametrize(
    "space, options, message",
    [
        (gym.spaces.Discrete(4), {}, "images or vectors; got Discrete(4)"),
        (gym.spaces.Dict({"a": VECTOR}), {}, "images or vectors; got Dict"),
        (VECTOR, {"crop": 8}, "crop=8 needs images"),
        (FRAMES, {"crop": 12}, "does not take images of 12 x 12 pixels"),
        (FRAMES, {"crop": 24}, "does not take images of 24 x 24 pixels"),
        (FRAMES, {"pad": 20}, "pad must be below 20 pixels"),
    ],
)
def test_spaces_without_views_are_refused(
    space: gym.Space, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        views_for(space, **options)
    assert message in str(error.value)
