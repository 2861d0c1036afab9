"""Augmentations of images: batched, on the device of the images, with an explicit generator.

All functions read [N, C, H, W]. They draw once per sample and apply the draw to all channels, so
the frames of a stack move together. Numbers are drawn on the generator's device and then moved. So
a generator on the CPU gives the same numbers for images on any device.

``rows=(first, total)``: the images are the rows from ``first`` on of a larger batch with ``total``
rows. The function draws for the whole batch. So several Learners, each with a part of the batch,
draw the same numbers as one Learner.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.peers import RowRange


def random_crop(
    images: Tensor,
    size: int | tuple[int, int],
    generator: torch.Generator,
    *,
    rows: RowRange | None = None,
) -> Tensor:
    """Crops each image at a random position; all positions are equally likely.

    Args:
        images: [N, C, H, W], any dtype.
        size: Sides of the window, pixels: one number, or (height, width).
        generator: Draws the positions.
        rows: See the docstring of the module.

    Returns:
        [N, C, height, width], the dtype of ``images``.

    Raises:
        ValueError: If ``images`` is not [N, C, H, W], or the window is larger than an image.

    Example:
        >>> images = torch.zeros(2, 3, 100, 100, dtype=torch.uint8)
        >>> random_crop(images, 84, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 84, 84])

    Source:
        Laskin et al. 2020, arXiv:2004.04136. Differs: the published code never draws the last
        position.
    """
    height, width = _window(images, size)
    positions = (images.shape[2] - height + 1, images.shape[3] - width + 1)
    top, left = _positions(len(images), positions, generator, rows)
    if images.device.type == "cpu" and len(images):
        # Three times as fast as indexing, which copies element by element.
        corners = zip(images.unbind(), top.tolist(), left.tolist(), strict=True)
        return torch.stack([image[:, y : y + height, x : x + width] for image, y, x in corners])
    # [N, C, H - height + 1, W - width + 1, height, width]: a view.
    windows = images.unfold(2, height, 1).unfold(3, width, 1)
    index = torch.arange(len(images), device=images.device)
    return windows[index, :, top.to(images.device), left.to(images.device)]


def center_crop(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Crops each image at its center; returns a view. An odd remainder is cut at the far end.

    Args:
        images: [N, C, H, W], any dtype.
        size: Sides of the window, pixels: one number, or (height, width).

    Returns:
        [N, C, height, width].

    Raises:
        ValueError: If ``images`` is not [N, C, H, W], or the window is larger than an image.

    Example:
        >>> images = torch.arange(16).reshape(1, 1, 4, 4)
        >>> center_crop(images, 2).tolist()
        [[[[5, 6], [9, 10]]]]
    """
    height, width = _window(images, size)
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


def random_shift(
    images: Tensor,
    pad: int,
    generator: torch.Generator,
    *,
    size: int | tuple[int, int] | None = None,
    rows: RowRange | None = None,
) -> Tensor:
    """Shifts each image by a random number of whole pixels; the border pixels are repeated.

    Args:
        images: [N, C, H, W], any dtype.
        pad: Border pixels repeated on every side, which is the largest shift; >= 0.
        generator: Draws the shifts, which are all equally likely.
        size: Sides of the crop of the padded image; None: the sides of the image.
        rows: See the docstring of the module.

    Returns:
        [N, C, H, W], or with sides ``size``, the dtype of ``images``.

    Raises:
        ValueError: If ``images`` is not [N, C, H, W], ``pad < 0``, or ``size`` is larger than a
            padded image.

    Example:
        >>> images = torch.zeros(2, 3, 84, 84, dtype=torch.uint8)
        >>> random_shift(images, 4, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 84, 84])

    Source:
        Kostrikov et al. 2020 (DrQ), arXiv:2004.13649: pad 4 at 84 x 84.
    """
    padded = _replicate_pad(images, pad)
    size = (images.shape[2], images.shape[3]) if size is None else size
    return random_crop(padded, size, generator, rows=rows)


def random_shift_bilinear(
    images: Tensor, pad: int, generator: torch.Generator, *, rows: RowRange | None = None
) -> Tensor:
    """``random_shift`` with bilinear sampling, as in DrQ-v2.

    The shifts are whole pixels. With the same generator, the result equals ``random_shift`` up to
    rounding.

    Args:
        images: [N, C, H, W], any dtype.
        pad: See ``random_shift``.
        generator: See ``random_shift``.
        rows: See the docstring of the module.

    Returns:
        [N, C, H, W], float32, in the units of ``images``.

    Raises:
        ValueError: If ``images`` is not [N, C, H, W], or ``pad < 0``.

    Source:
        Yarats et al. 2021, arXiv:2107.09645, published code. Differs: images need not be square.
    """
    num, _, height, width = _check_images(images)
    padded = _replicate_pad(images, pad).float()
    top, left = _positions(num, (2 * pad + 1, 2 * pad + 1), generator, rows)
    # The center of pixel i of a side of length L is at (2 i + 1) / L - 1.
    y = _centers(top, height, height + 2 * pad).to(images.device)  # [N, H]
    x = _centers(left, width, width + 2 * pad).to(images.device)  # [N, W]
    grid = torch.stack(
        [x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1
    )
    return F.grid_sample(padded, grid, padding_mode="zeros", align_corners=False)


def intensity(
    images: Tensor, scale: float, generator: torch.Generator, *, rows: RowRange | None = None
) -> Tensor:
    """Multiplies each image by ``1 + scale * clip(normal, -2, 2)``.

    Args:
        images: [N, C, H, W], any dtype.
        scale: Standard deviation of the factor before the clip; >= 0, no unit.
        generator: Draws the factors.
        rows: See the docstring of the module.

    Returns:
        [N, C, H, W], float32, in the units of ``images``, not clipped to their range.

    Raises:
        ValueError: If ``images`` is not [N, C, H, W], or ``scale < 0``.

    Example:
        >>> images = torch.full((1, 1, 2, 2), 100)
        >>> intensity(images, 0.0, torch.Generator().manual_seed(0)).flatten().tolist()
        [100.0, 100.0, 100.0, 100.0]

    Source:
        Kostrikov et al. 2020 (DrQ), arXiv:2004.13649, on Atari, with scale 0.05.
    """
    num = _check_images(images)[0]
    if not scale >= 0:
        raise ValueError(f"scale must be >= 0; got {scale}.")
    first, total = rows or (0, num)
    normal = torch.randn(total, 1, 1, 1, generator=generator, device=generator.device)
    normal = normal[first : first + num]
    return images.float() * (1.0 + scale * normal.clamp(-2.0, 2.0)).to(images.device)


def _positions(
    num: int, below: tuple[int, int], generator: torch.Generator, rows: RowRange | None
) -> list[Tensor]:
    """Random rows and columns [num], each below its bound."""
    first, total = rows or (0, num)
    device = generator.device
    drawn = [torch.randint(n, (total,), generator=generator, device=device) for n in below]
    return [column[first : first + num] for column in drawn]


def _centers(starts: Tensor, length: int, side: int) -> Tensor:
    """[N, length]: coordinates of ``length`` pixels from each start; [-1, 1] is ``side`` pixels."""
    pixels = starts[:, None] + torch.arange(length, device=starts.device)
    return (2.0 * pixels + 1.0) / side - 1.0


def _replicate_pad(images: Tensor, pad: int) -> Tensor:
    _, _, height, width = _check_images(images)
    if pad < 0:
        raise ValueError(f"pad must be >= 0; got {pad}.")
    # torch's replicate padding supports only floats.
    rows, columns = (
        torch.arange(-pad, side + pad, device=images.device).clamp(0, side - 1)
        for side in (height, width)
    )
    return images.index_select(2, rows).index_select(3, columns)


def _window(images: Tensor, size: int | tuple[int, int]) -> tuple[int, int]:
    _, _, image_height, image_width = _check_images(images)
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= image_height and 1 <= width <= image_width):
        raise ValueError(
            f"size must fit in the images of {image_height} x {image_width} pixels; got {size}."
        )
    return height, width


def _check_images(images: Tensor) -> torch.Size:
    if images.ndim != 4:
        raise ValueError(f"images must be [N, C, H, W]; got {tuple(images.shape)}.")
    return images.shape
