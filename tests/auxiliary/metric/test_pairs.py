"""Pairs of frames: their classes, their episodes, and windows that have none."""

import pytest
import torch

from rlssl.auxiliary.pairs import draw_pairs

CLASSES = [(0, 0), (1, 1), (2, 2), (3, 4), (5, 12)]


def draws(num: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num, 2, generator=torch.Generator().manual_seed(seed))


def test_classes_of_whole_windows_are_uniform() -> None:
    num = 10_000
    valid = torch.ones(num, 13, dtype=torch.bool)
    place, label, found = draw_pairs(valid, 0, CLASSES, draws(num))
    assert found.all()
    # 2,000 of each class, std 40.
    counts = torch.bincount(label, minlength=5)
    assert (counts - 2000).abs().max() < 200
    # 8 frames of the last class, 250 each, std 15.
    frames = torch.bincount(place[label == 4], minlength=13)[5:]
    assert (frames - 250).abs().max() < 75


def test_draws_stay_in_their_class_and_episode() -> None:
    num = 10_000
    # An episode before and after each row of random length.
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(0, 7, (num, 1), generator=generator)
    last = torch.randint(6, 19, (num, 1), generator=generator)
    places = torch.arange(19)
    valid = (places >= first) & (places <= last)
    place, label, found = draw_pairs(valid, 6, CLASSES, draws(num))
    assert found.all()
    assert valid[torch.arange(num), place].all()
    bounds = torch.tensor(CLASSES)[label]
    distance = (place - 6).abs()
    assert ((distance >= bounds[:, 0]) & (distance <= bounds[:, 1])).all()
    assert (place < 6).any() and (place > 6).any()


def test_classes_without_a_frame_are_never_drawn() -> None:
    # Two frames after the row: classes 0, 1 and 2.
    valid = torch.zeros(3000, 13, dtype=torch.bool)
    valid[:, :3] = True
    _, label, found = draw_pairs(valid, 0, CLASSES, draws(3000))
    assert found.all()
    counts = torch.bincount(label, minlength=5)
    assert counts[3:].tolist() == [0, 0] and (counts[:3] - 1000).abs().max() < 150


def test_an_episode_that_is_too_short_has_no_pair() -> None:
    valid = torch.tensor([[True] * 5 + [False] * 8, [True] * 13])
    place, label, found = draw_pairs(valid, 0, [(5, 8), (9, 12)], draws(2))
    assert found.tolist() == [False, True]
    assert place[0] == 0 and label[0] == 0 and place[1] >= 5


def test_draws_near_one_stay_in_range() -> None:
    valid = torch.ones(1, 13, dtype=torch.bool)
    nearly = torch.full((1, 2), 1.0).nextafter(torch.tensor(0.0))
    place, label, _ = draw_pairs(valid, 0, CLASSES, nearly)
    assert place.item() == 12 and label.item() == 4


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"valid must be \[N, W\] and draws \[N, 2\]"):
        draw_pairs(torch.ones(2, 3, dtype=torch.bool), 0, CLASSES, torch.zeros(2))
