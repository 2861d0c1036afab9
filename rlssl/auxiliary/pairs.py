"""Pairs of frames: drawn from one episode by their distance in time, and which are the same."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlssl.batches import EPISODE, STEP

#: Smallest and largest distance of a class of pairs, agent steps; both belong to the class.
Distances = tuple[int, int]


class Pairs(NamedTuple):
    """A partner for each row. Rows without a partner have place and label 0."""

    # [N], int64: the place of the partner in the row's window.
    place: Tensor
    # [N], int64: the class of the distance.
    label: Tensor
    # [N], bool: whether the row has a partner.
    found: Tensor


def draw_pairs(valid: Tensor, before: int, classes: Sequence[Distances], draws: Tensor) -> Pairs:
    """Draws a partner for each row among the frames of its window.

    First a class is drawn, uniformly among those of which the window has a valid frame, then one
    of the class's valid frames, uniformly. Pairs never leave the window, so they never cross an end
    of an episode. Rows near an end have the near classes only: over all rows, near classes are more
    frequent than far ones.

    Args:
        valid: [N, W], bool: the places that are in the row's episode.
        before: The place of the row in its window.
        classes: Distances of each class; classes do not overlap.
        draws: [N, 2], uniform in [0, 1).

    Returns:
        The pairs.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        The row stands at place 0, and place 3 is over the end. Class 1, distances 2 and 3, has one
        frame left:

        >>> valid = torch.tensor([[True, True, True, False]])
        >>> draw_pairs(valid, 0, [(1, 1), (2, 3)], torch.tensor([[0.9, 0.9]]))
        Pairs(place=tensor([2]), label=tensor([1]), found=tensor([True]))
    """
    if valid.ndim != 2 or draws.shape != (len(valid), 2):
        raise ValueError(
            f"valid must be [N, W] and draws [N, 2]; got {tuple(valid.shape)} and "
            f"{tuple(draws.shape)}."
        )
    distance = (torch.arange(valid.shape[1], device=valid.device) - before).abs()
    # [C, W]; a tensor of the bounds would be copied to the device in every update.
    in_class = torch.stack([(distance >= low) & (distance <= high) for low, high in classes])
    frames = valid[:, None] & in_class  # [N, C, W]
    label = _nth_true(frames.any(dim=2), draws[:, 0])
    rows = torch.arange(len(valid), device=valid.device)
    place = _nth_true(frames[rows, label], draws[:, 1])
    return Pairs(place, label, frames.any(dim=2).any(dim=1))


def _nth_true(mask: Tensor, draws: Tensor) -> Tensor:
    """[N], the column of a true entry in each row of a mask [N, M], uniform; 0 without any."""
    count = mask.sum(dim=1)
    # A draw near 1 can be rounded up to the count.
    number = torch.minimum((draws * count).long(), (count - 1).clamp(min=0))
    is_drawn = mask & (mask.cumsum(dim=1) == number[:, None] + 1)
    return is_drawn.long().argmax(dim=1)


def frame_numbers(batch: Mapping[str, Any], place: int | slice) -> Tensor:
    """[N, 2] or [N, K, 2], int64: episode and step of the frames at places of windows.

    Example:
        >>> columns = {"episode": torch.tensor([[7, 7]]), "step": torch.tensor([[0, 1]])}
        >>> frame_numbers(columns, 1).tolist()
        [[7, 1]]
    """
    return torch.stack([batch[EPISODE][:, place], batch[STEP][:, place]], dim=-1)


def same_frame(first: Tensor, second: Tensor) -> Tensor:
    """[N, M], bool: whether frames with numbers [N, 2] and [M, 2] are the same frame.

    Such a pair is a false negative: its latents are equal, so that no encoder can tell them apart.

    Example:
        >>> same_frame(torch.tensor([[7, 0]]), torch.tensor([[7, 1], [7, 0], [8, 0]])).tolist()
        [[False, True, False]]
    """
    return (first[:, None] == second).all(dim=-1)
