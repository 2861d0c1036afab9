"""RND and NovelD: values by hand, degenerate cases, spaces, which parameters move."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.bonuses.noveld import NovelD
from rlssl.auxiliary.bonuses.rnd import RND
from rlssl.image_spaces import ImageSpace
from rlssl.networks import build_encoder
from tests.auxiliary.latents import ACTIONS, SPACES, VECTOR, N, sample

ALL_SPACES = {
    **SPACES,
    "discrete": gym.spaces.Discrete(5),
    "dict": gym.spaces.Dict({"a": VECTOR, "b": gym.spaces.Discrete(3)}),
}
BOTH = pytest.mark.parametrize("loss_class", [RND, NovelD])


def make(loss_class: Any = RND, space: gym.Space = VECTOR, **options: Any) -> Any:
    torch.manual_seed(0)
    frames = {"frame_stack": options.pop("frame_stack")} if "frame_stack" in options else {}
    return loss_class(
        loss_class.Config(**{"hidden": 16, "output_dim": 8, **options}),
        encoder=build_encoder(space),
        observation_space=space,
        action_space=ACTIONS["discrete"],
        **frames,
    )


def batch_of(space: gym.Space, n: int = N) -> dict[str, Any]:
    return {
        Columns.OBS: sample(space, n),
        Columns.NEXT_OBS: sample(space, 2 * n)[n:]
        if not isinstance(space, gym.spaces.Dict)
        else sample(space, n),
        Columns.ACTIONS: torch.zeros(n, dtype=torch.int64),
        "chunks": [ChunkInfo("a", 2, 0, False), ChunkInfo("b", n - 2, 0, False)],
    }


class Fixed(nn.Module):
    """Outputs that are a factor times the observation."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, observation: Tensor) -> Tensor:
        return self.factor * observation.float()


def by_hand(loss_class: Any, **options: Any) -> Any:
    """The prediction is 3 s, the target is s: their difference is 2 s."""
    loss = make(loss_class, **options)
    loss.normalizer, loss.predictor, loss.target = None, Fixed(3.0), Fixed(1.0)
    return loss


HAND = {
    Columns.OBS: torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
    Columns.NEXT_OBS: torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 2.0]]),
    Columns.ACTIONS: torch.zeros(2, dtype=torch.int64),
}


def test_rnd_by_hand() -> None:
    # Mean squares: 4 / 3 and 4 * 9 / 3 = 12. One episode, so the returns are 4 / 3 and
    # 0.5 * 4 / 3 + 12 = 38 / 3: half of their difference, 17 / 3, is their std.
    loss = by_hand(RND, gamma=0.5)
    torch.testing.assert_close(loss.losses(HAND)["distillation"], torch.tensor([4 / 3, 12.0]))
    reward = loss.intrinsic_reward({**HAND, "chunks": [ChunkInfo("a", 2, 0, False)]})
    torch.testing.assert_close(reward, torch.tensor([4 / 3, 12.0]) / (17 / 3))
    assert loss.metrics(HAND)["return_std"] == pytest.approx(17 / 3)


def test_noveld_by_hand() -> None:
    # Norms of 2 s: 0 -> 2 -> 6. Gains: 2 - 0 = 2, 6 - 0.5 * 2 = 5.
    batch = {**HAND, "chunks": [ChunkInfo("a", 2, 0, False)]}
    loss = by_hand(NovelD)
    assert loss.intrinsic_reward(batch).tolist() == [2.0, 5.0]
    # In a second chunk of the same episode, both observations were visited before.
    assert loss.intrinsic_reward(batch).tolist() == [0.0, 0.0]
    other = {**HAND, "chunks": [ChunkInfo("b", 2, 0, False)]}
    assert loss.intrinsic_reward(other).tolist() == [2.0, 5.0]
    assert loss.metrics(batch)["first_visits"] == 1.0


@BOTH
def test_no_reward_where_the_predictor_equals_the_target(loss_class: Any) -> None:
    loss = by_hand(loss_class)
    loss.predictor = loss.target
    batch = batch_of(VECTOR)
    assert loss.intrinsic_reward(batch).tolist() == [0.0] * N
    assert loss.losses(batch)["distillation"].tolist() == [0.0] * N


@BOTH
@pytest.mark.parametrize("name", ALL_SPACES)
def test_any_observation_space_works(loss_class: Any, name: str) -> None:
    loss = make(loss_class, ALL_SPACES[name], update_share=0.5)
    batch = batch_of(ALL_SPACES[name])
    reward = loss.intrinsic_reward(batch)
    error = loss.losses(batch)["distillation"]
    assert reward.shape == (N,) and reward.isfinite().all() and (reward >= 0).all()
    assert error.ndim == 1 and len(error) < N and error.isfinite().all()


def train(loss: Any, batch: Mapping[str, Any], steps: int) -> None:
    optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss.losses(batch)["distillation"].mean().backward()
        optimizer.step()
        loss.after_update()


@BOTH
def test_target_and_rl_encoder_do_not_move_in_100_steps(loss_class: Any) -> None:
    loss = make(loss_class)
    before = {key: value.clone() for key, value in loss.target.state_dict().items()}
    train(loss, batch_of(VECTOR), steps=100)
    assert all(torch.equal(value, before[key]) for key, value in loss.target.state_dict().items())
    assert all(p.grad is None for p in loss.encoder.parameters())


def error_at(loss: Any, observations: Any) -> float:
    with torch.no_grad():
        prediction, target = loss.outputs(observations)
    return float((prediction - target).square().mean())


def test_error_falls_at_a_repeated_batch_and_not_at_a_new_one() -> None:
    # The repeated rows only have the first 16 elements, the new rows only the others.
    loss = make(RND, gym.spaces.Box(-1, 1, (32,), np.float32))
    drawn = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    repeated = torch.cat([drawn[:32], torch.zeros(32, 16)], dim=1)
    new = torch.cat([torch.zeros(32, 16), drawn[32:]], dim=1)
    loss.observe(torch.cat([repeated, new]))
    before = error_at(loss, repeated), error_at(loss, new)
    batch = {Columns.NEXT_OBS: repeated, Columns.ACTIONS: torch.zeros(32)}
    train(loss, batch, steps=200)
    assert error_at(loss, repeated) < 0.05 * before[0]
    assert error_at(loss, new) > 0.7 * before[1]


def test_drawn_rows_are_a_share_and_change_with_each_update() -> None:
    loss = make(update_share=0.25)
    rows = torch.arange(4000.0)[:, None]
    first, again = loss._drawn(rows, 4000), loss._drawn(rows, 4000)
    loss.after_update()
    later = loss._drawn(rows, 4000)
    assert torch.equal(first, again) and not torch.equal(first, later)
    # Binomial: mean 1000, std 27.
    assert 890 < len(first) < 1110


@pytest.mark.parametrize(
    "space, last",
    [
        (gym.spaces.Box(-9, 9, (6,), np.float32), lambda x: x[:, 3:]),
        (gym.spaces.Box(0, 255, (4, 42, 42), np.uint8), lambda x: x[:, 2:]),
        (
            ImageSpace(np.zeros((40, 40, 6), np.uint8), np.full((40, 40, 6), 255, np.uint8), "HWC"),
            lambda x: x[..., 3:],
        ),
    ],
)
def test_only_the_last_of_two_stacked_frames_is_read(space: gym.Space, last: Any) -> None:
    loss = make(RND, space, frame_stack=2)
    seen: list[Tensor] = []
    loss.target.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = batch_of(space)
    loss.losses(batch)
    # Before any statistics, observations are only clipped.
    torch.testing.assert_close(seen[0], last(batch[Columns.NEXT_OBS]).float().clamp(-5, 5))


def test_observations_are_normalized_by_all_rows_and_clipped() -> None:
    loss = make()
    loss.observe(torch.tensor([[0.0, 0.0, 0.0]]))
    loss.observe(torch.tensor([[4.0, 20.0, 0.0]]))
    # Means 2, 10, 0; stds 2, 10, unknown: (4 - 2) / 2 = 1; (100 - 10) / 10 = 9, clipped to 5.
    normalized = loss.normalizer(torch.tensor([[4.0, 100.0, 1.0]]))
    torch.testing.assert_close(normalized, torch.tensor([[1.0, 5.0, 1.0]]))


@pytest.mark.parametrize(
    "loss_class, options, message",
    [
        (RND, {"update_share": 0.0}, "update_share must be in (0, 1]; got 0.0."),
        (RND, {"gamma": 1.0}, "gamma must be in [0, 1); got 1.0."),
        (RND, {"output_dim": 0}, "output_dim must be a whole number > 0; got 0."),
        (NovelD, {"scale": -0.5}, "scale must be >= 0; got -0.5."),
        (NovelD, {"reward_clip": 0.0}, "reward_clip must be > 0 or null; got 0.0."),
        (NovelD, {"max_states": -1}, "max_states must be a whole number > 0; got -1."),
    ],
)
def test_bad_options_name_the_value(loss_class: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        loss_class.Config(**options)
    assert message in str(error.value)
