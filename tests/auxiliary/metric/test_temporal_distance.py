"""Temporal distance: a counter, ends of episodes, frames that are encoded, Learners, options."""

import math
import threading
from typing import Any

import gymnasium as gym
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.metric.temporal_distance import TemporalDistance
from rlssl.auxiliary.windows import FRAME, VALID
from rlssl.networks import build_encoder
from tests.auxiliary.latents import VECTOR, Half, Meeting, Scaled, take, windows_of

NEAR = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 8))


def make(encoder: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return TemporalDistance(
        TemporalDistance.Config(**{"classes": NEAR, **options}),
        encoder=build_encoder(VECTOR) if encoder is None else encoder,
        observation_space=VECTOR,
        action_space=gym.spaces.Discrete(2),
    )


def sample(num: int = 8) -> dict[str, Any]:
    return windows_of(torch.randn(num, 9, 3, generator=torch.Generator().manual_seed(0)))


def counters(num: int = 128, length: int = 9, numbers: int = 20) -> dict[str, Any]:
    """Windows of a counter that starts anywhere, one-hot."""
    start = torch.randint(
        numbers - length + 1, (num, 1), generator=torch.Generator().manual_seed(0)
    )
    return windows_of(torch.eye(numbers)[start + torch.arange(length)])


def trained(batch: dict[str, Any], **options: Any) -> tuple[Any, list[float]]:
    """The loss after 250 updates, and its values over 20 more draws."""
    loss = make(Scaled(batch[Columns.OBS].shape[-1]), **options)
    adam = torch.optim.Adam(loss.parameters(), lr=1e-2)
    values = []
    for step in range(270):
        adam.zero_grad()
        mean = loss.losses(batch)["distance"].mean()
        if step < 250:
            mean.backward()
            adam.step()
        else:
            values.append(mean.item())
        loss.after_update()
    return loss, values


def test_the_distance_of_a_counter_is_learned() -> None:
    batch = counters()
    loss, values = trained(batch)
    assert sum(values) / len(values) < 0.05
    assert loss.metrics(batch)["accuracy"] > 0.95


def test_labels_of_other_rows_cannot_be_learned() -> None:
    _, values = trained(counters(), shuffled_positives=True)
    # Fresh labels in every update: the loss stays at the entropy of the 5 classes.
    assert sum(values) / len(values) > 0.95 * math.log(5)


def test_it_starts_at_the_log_of_the_number_of_classes() -> None:
    found = make().losses(sample())["distance"]
    torch.testing.assert_close(found, torch.full((8,), math.log(5)), rtol=0, atol=0.05)


def test_partners_are_frames_of_the_window_and_have_the_label_of_their_distance() -> None:
    batch = counters()
    loss = make(Scaled(20))
    seen: list[Tensor] = []
    loss.classifier.register_forward_pre_hook(lambda _, given: seen.extend(given))
    loss.losses(batch)
    earlier, later = (latents.argmax(-1) for latents in seen)
    label = loss._compared[1]
    bounds = torch.tensor(NEAR)[label]
    assert ((later - earlier >= bounds[:, 0]) & (later - earlier <= bounds[:, 1])).all()
    assert torch.equal(earlier, batch[Columns.OBS][:, 0].argmax(-1))
    assert set(label.tolist()) == {0, 1, 2, 3, 4}


def test_frames_after_the_end_are_never_partners() -> None:
    batch = sample(num=400)
    batch[VALID][:200, 3:] = False
    batch[Columns.OBS][:200, 3:] = torch.nan
    loss = make(Scaled())
    found = loss.losses(batch)["distance"]
    assert found.isfinite().all()
    label = loss._compared[1]
    assert label[:200].max() == 2 and label[200:].max() == 4
    # 200 rows without the last class, 200 with a fifth: 0.1.
    assert loss.metrics(batch)["farthest_share"].item() == pytest.approx(0.1, abs=0.04)


def test_rows_without_a_partner_have_weight_zero() -> None:
    loss, batch = make(classes=((3, 4), (5, 8))), sample()
    batch[VALID][:4, 3:] = False
    found = loss.losses(batch)["distance"]
    # 4 of 8 rows count, each twice: about 2 log 2.
    assert found[:4].tolist() == [0.0] * 4
    torch.testing.assert_close(found[4:], torch.full((4,), 2 * math.log(2)), rtol=0, atol=0.1)
    batch[VALID][:, 3:] = False
    assert loss.losses(batch)["distance"].tolist() == [0.0] * 8
    assert loss.metrics(batch) == {}


def test_only_rows_and_partners_are_encoded_and_each_frame_once() -> None:
    loss, batch = make(), sample()
    sizes: list[int] = []
    loss.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    without = loss.losses(batch)["distance"]
    assert sizes == [16]
    # All windows show the same 9 frames, numbered: at most 9 are encoded.
    batch[Columns.OBS] = batch[Columns.OBS][:1].expand(8, -1, -1)
    plain = loss.losses(batch)["distance"]
    batch[FRAME] = torch.arange(9).expand(8, 9)
    numbered = loss.losses(batch)["distance"]
    assert sizes[-1] <= 9 and not torch.equal(plain, without)
    torch.testing.assert_close(numbered, plain)


def test_two_learners_with_halves_have_the_losses_of_one() -> None:
    batch = sample()
    for options in ({}, {"shuffled_positives": True}):
        whole = make(**options).losses(batch)["distance"]
        meeting = Meeting()
        parts: dict[int, Tensor] = {}
        copies = [make(**options) for _ in range(2)]

        def learn(
            rank: int, copies: Any = copies, meeting: Any = meeting, parts: Any = parts
        ) -> None:
            copies[rank].peers = Half(rank, 8, meeting)
            rows = take(batch, slice(4 * rank, 4 * rank + 4))
            parts[rank] = copies[rank].losses(rows)["distance"]

        threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.testing.assert_close(torch.cat([parts[0], parts[1]]), whole)


def test_lists_become_tuples_and_set_the_window() -> None:
    loss = make(classes=[[0, 1], [2, 6]])
    assert loss.config.classes == ((0, 1), (2, 6))
    assert loss.window == (0, 6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": [[0, 0]]}, "classes must be two or more pairs"),
        ({"classes": [[0, 2], [2, 4]]}, "got [[0, 2], [2, 4]]"),
        ({"classes": [[3, 4], [1, 2]]}, "in rising order"),
        ({"classes": [[-1, 0], [1, 2]]}, "whole numbers >= 0"),
        ({"classes": [[0, 0.5], [1, 2]]}, "whole numbers >= 0"),
        ({"classes": 5}, "got 5"),
        ({"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
        ({"isolated": 1}, "isolated must be true or false; got 1"),
    ],
)
def test_bad_options_name_key_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        TemporalDistance.Config(**options)
    assert message in str(error.value)
