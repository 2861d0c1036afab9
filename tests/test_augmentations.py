"""Augmentations: equal to a loop over samples, one draw per stack, seeds, dtypes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.augmentations import (
    center_crop,
    intensity,
    random_crop,
    random_shift,
    random_shift_bilinear,
)

N, C, H, W = 6, 4, 12, 10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(0, 256, (N, C, H, W), generator=seeded(9)).to(dtype)


def positions(rows: int, columns: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """The draws of a crop: N rows, then N columns."""
    top = torch.randint(rows, (N,), generator=generator).tolist()
    return list(zip(top, torch.randint(columns, (N,), generator=generator).tolist(), strict=True))


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "random_crop": lambda images, generator, **rows: random_crop(images, 7, generator, **rows),
    "random_shift": lambda images, generator, **rows: random_shift(images, 4, generator, **rows),
    "random_shift_bilinear": lambda images, generator, **rows: random_shift_bilinear(
        images, 4, generator, **rows
    ),
    "intensity": lambda images, generator, **rows: intensity(images, 0.5, generator, **rows),
}
every_augmentation = pytest.mark.parametrize("name", AUGMENTATIONS)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("size", [7, (5, 8), (H, W)])
def test_random_crop_equals_a_loop_over_samples(size: Any, dtype: torch.dtype) -> None:
    images = pixels(dtype)
    height, width = (size, size) if isinstance(size, int) else size
    drawn = positions(H - height + 1, W - width + 1, seeded())
    expected = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(images, drawn, strict=True)
    ]
    actual = random_crop(images, size, seeded())
    assert actual.dtype == dtype
    assert torch.equal(actual, torch.stack(expected))


@pytest.mark.parametrize("pad", [0, 1, 4, 20])
def test_random_shift_equals_a_padded_loop_over_samples(pad: int) -> None:
    images = pixels()
    drawn = positions(2 * pad + 1, 2 * pad + 1, seeded())
    expected = []
    for image, (top, left) in zip(images, drawn, strict=True):
        padded = F.pad(image.float()[None], (pad,) * 4, mode="replicate")[0]
        expected.append(padded[:, top : top + H, left : left + W].to(torch.uint8))
    actual = random_shift(images, pad, seeded())
    assert actual.dtype == torch.uint8
    assert torch.equal(actual, torch.stack(expected))


def test_bilinear_shift_equals_the_published_grid_one_sample_at_a_time() -> None:
    # Published code of DrQ-v2 on a square image: a base grid of pixel centers, shifted by whole
    # pixels. In units of the grid, a pixel is 2 / (h + 2 pad).
    pad, images = 4, pixels()[..., :W, :]
    side = W + 2 * pad
    drawn = positions(2 * pad + 1, 2 * pad + 1, seeded())
    centers = torch.linspace(-1 + 1 / side, 1 - 1 / side, side)[:W]
    expected = []
    for image, (top, left) in zip(images, drawn, strict=True):
        padded = F.pad(image.float()[None], (pad,) * 4, mode="replicate")
        y, x = torch.meshgrid(centers + 2 * top / side, centers + 2 * left / side, indexing="ij")
        grid = torch.stack([x, y], dim=-1)[None]
        expected.append(F.grid_sample(padded, grid, padding_mode="zeros", align_corners=False)[0])
    actual = random_shift_bilinear(images, pad, seeded())
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, torch.stack(expected), atol=1e-2, rtol=0)


@pytest.mark.parametrize("shape", [(N, 9, 84, 84), (N, C, H, W)])
def test_both_shifts_give_the_same_pixels_from_the_same_generator(shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, generator=seeded(3), dtype=torch.uint8)
    bilinear = random_shift_bilinear(images, 4, seeded())
    assert (bilinear - random_shift(images, 4, seeded()).float()).abs().max() < 0.01


def test_intensity_equals_a_loop_over_samples() -> None:
    images = pixels()
    factors = [1 + 0.5 * max(-2.0, min(2.0, float(n))) for n in torch.randn(N, generator=seeded())]
    expected = [image.float() * factor for image, factor in zip(images, factors, strict=True)]
    torch.testing.assert_close(intensity(images, 0.5, seeded()), torch.stack(expected))


def test_intensity_factor_is_clipped_at_two_standard_deviations() -> None:
    factors = intensity(torch.ones(5_000, 1, 1, 1), 0.5, seeded()).flatten()
    # 1 +- 0.5 * 2; about 5 % of normal draws are outside.
    assert factors.min() == 0.0 and factors.max() == 2.0
    assert 0.03 < ((factors == 0) | (factors == 2)).float().mean() < 0.06


def test_center_crop_by_hand() -> None:
    # Rows (12 - 5) // 2 = 3 to 8, columns (10 - 8) // 2 = 1 to 9.
    images = pixels()
    assert torch.equal(center_crop(images, (5, 8)), images[:, :, 3:8, 1:9])
    assert torch.equal(center_crop(images, (H, W)), images)


@every_augmentation
def test_frames_of_a_stack_share_one_draw(name: str) -> None:
    # Frame c is the first frame plus 20 c. If all frames have the same window, differences between
    # frames are constant. Intensity scales them by one factor per sample.
    base = torch.randint(1, 100, (N, 1, H, W), generator=seeded(1), dtype=torch.uint8)
    images = base + 20 * torch.arange(C, dtype=torch.uint8).view(1, C, 1, 1)
    augmented = AUGMENTATIONS[name](images, seeded()).float()
    step = augmented[:, 1:] - augmented[:, :-1]  # [N, C - 1, ...]
    torch.testing.assert_close(step, step[:, :1, :1, :1].expand_as(step), atol=0.02, rtol=0)
    if name != "intensity":
        torch.testing.assert_close(step, torch.full_like(step, 20.0), atol=0.02, rtol=0)


def test_stack_of_distinct_constant_frames_with_a_marked_pixel_shows_one_crop() -> None:
    images = torch.arange(C, dtype=torch.uint8).view(1, C, 1, 1).expand(N, C, H, W).clone()
    images[:, :, 5, 5] = 255
    cropped = random_crop(images, 8, seeded())  # rows 0..4, columns 0..2: the mark stays inside
    marks = (cropped == 255).flatten(2).int().argmax(dim=2)  # [N, C]
    assert (marks == marks[:, :1]).all()
    assert len(marks[:, 0].unique()) > 1  # samples differ


@every_augmentation
def test_same_generator_state_gives_the_same_result(name: str) -> None:
    augment = AUGMENTATIONS[name]
    generator = seeded()
    first, second = augment(pixels(), generator), augment(pixels(), generator)
    assert torch.equal(augment(pixels(), seeded()), first)
    assert not torch.equal(first, second)


@every_augmentation
def test_global_generator_and_input_are_not_changed(name: str) -> None:
    before, images = torch.random.get_rng_state(), pixels()
    AUGMENTATIONS[name](images, seeded())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(images, pixels())


@every_augmentation
def test_parts_of_a_batch_get_the_draws_of_the_whole_batch(name: str) -> None:
    augment, images = AUGMENTATIONS[name], pixels()
    parts = [
        augment(images[first : first + 2], seeded(), rows=(first, N)) for first in range(0, N, 2)
    ]
    torch.testing.assert_close(torch.cat(parts), augment(images, seeded()))


@every_augmentation
def test_zero_rows_are_no_error(name: str) -> None:
    assert len(AUGMENTATIONS[name](pixels()[:0], seeded())) == 0


def test_every_position_is_drawn() -> None:
    # A window of 2 x 2 in 4 x 4 pixels has 3 * 3 positions, told apart by the top left pixel.
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(900, 1, 4, 4)
    corners, counts = random_crop(images, 2, seeded())[:, 0, 0, 0].unique(return_counts=True)
    assert corners.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    # 100 each, with std sqrt(900 * 1/9 * 8/9) = 9.4.
    assert counts.min() > 60 and counts.max() < 140


@pytest.mark.parametrize(
    "augment, match",
    [
        (lambda: random_crop(pixels(), 11, seeded()), "12 x 10 pixels; got 11"),
        (lambda: random_crop(pixels(), 0, seeded()), "got 0"),
        (lambda: center_crop(pixels()[0], 3), r"\[N, C, H, W\]; got \(4, 12, 10\)"),
        (lambda: random_shift(pixels(), -1, seeded()), "pad must be >= 0; got -1"),
        (lambda: random_shift_bilinear(pixels(), -1, seeded()), "pad must be >= 0; got -1"),
        (lambda: intensity(pixels(), -0.1, seeded()), "scale must be >= 0; got -0.1"),
    ],
)
def test_rejects_bad_arguments(augment: Callable[[], Tensor], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        augment()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_augmentation
def test_same_pixels_on_every_device(name: str) -> None:
    augment = AUGMENTATIONS[name]
    on_gpu = augment(pixels().cuda(), seeded())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), augment(pixels(), seeded()), atol=0.01, rtol=1e-6)
