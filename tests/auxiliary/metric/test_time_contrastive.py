"""Time-contrastive loss: triplets within bounds, a slow reference, ends of episodes, learning."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.metric.time_contrastive import TimeContrastive
from rlssl.auxiliary.windows import VALID
from tests.auxiliary.latents import VECTOR, Scaled, windows_of

LENGTH = 13


def make(features: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return TimeContrastive(
        TimeContrastive.Config(**options),
        encoder=Scaled(features),
        observation_space=VECTOR,
        action_space=gym.spaces.Discrete(2),
    )


def counters(num: int, numbers: int = 40) -> dict[str, Any]:
    """Windows of a counter that starts anywhere, one-hot."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(numbers - LENGTH + 1, (num, 1), generator=generator)
    return windows_of(torch.eye(numbers)[start + torch.arange(LENGTH)])


def seen_by(loss: Any, batch: dict[str, Any]) -> torch.Tensor:
    """[N, 3], the numbers that the head sees."""
    seen: list[torch.Tensor] = []
    handle = loss.head.register_forward_pre_hook(lambda _, given: seen.extend(given))
    loss.losses(batch)
    handle.remove()
    return seen[0].argmax(-1)


def test_ten_thousand_triplets_are_within_bounds_and_uniform() -> None:
    numbers = seen_by(make(40), counters(10_000))
    near, far = numbers[:, 1] - numbers[:, 0], numbers[:, 2] - numbers[:, 0]
    assert set(near.tolist()) == {1, 2, 3} and set(far.tolist()) == set(range(7, 13))
    # 10,000 draws: standard deviations of 47 and 37.
    assert (torch.bincount(near)[1:] - 10_000 / 3).abs().max() < 5 * 47
    assert (torch.bincount(far)[7:] - 10_000 / 6).abs().max() < 5 * 37


def test_values_are_those_of_a_slow_reference() -> None:
    batch = counters(16)
    loss = make(40, margin=0.5)
    found = loss.losses(batch)["triplet"]
    for row, places in enumerate(seen_by(loss, batch).tolist()):
        one, near, far = (
            torch.nn.functional.normalize(loss.head(loss.encoder(torch.eye(40)[place])), dim=0)
            for place in places
        )
        expected = max(0.0, float((one - near).square().sum() - (one - far).square().sum()) + 0.5)
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)


def test_episodes_that_end_too_early_have_weight_zero() -> None:
    batch = counters(8)
    batch[VALID][:4, 7:] = False
    batch[Columns.OBS][:4, 7:] = torch.nan
    loss = make(40)
    found = loss.losses(batch)["triplet"]
    assert found.isfinite().all() and found[:4].tolist() == [0.0] * 4 and found[4:].any()
    batch[VALID][:, 7:] = False
    assert loss.losses(batch)["triplet"].tolist() == [0.0] * 8 and loss.metrics(batch) == {}


@pytest.mark.parametrize("shuffled", [False, True])
def test_near_and_far_are_told_apart_unless_positives_are_shuffled(shuffled: bool) -> None:
    batch = counters(128)
    loss = make(40, shuffled_positives=shuffled)
    adam = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(200):
        adam.zero_grad()
        mean = loss.losses(batch)["triplet"].mean()
        mean.backward()
        adam.step()
        loss.after_update()
    assert (float(mean) < 0.02) == (not shuffled)
    if not shuffled:
        assert float(loss.metrics(batch)["accuracy"]) > 0.95


@pytest.mark.parametrize(
    "options, message",
    [
        ({"near": 7}, "near=7, far=7, farthest=12"),
        ({"farthest": 6}, "near < far <= farthest"),
        ({"near": 0}, "near must be a whole number >= 1; got 0"),
        ({"margin": 0.0}, "margin must be > 0; got 0.0"),
        ({"embedding_dim": 0}, "embedding_dim must be a whole number >= 1"),
        ({"isolated": 1}, "isolated must be true or false; got 1"),
    ],
)
def test_bad_options_name_key_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        TimeContrastive.Config(**options)
    assert message in str(error.value)
