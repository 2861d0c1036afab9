"""Losses see windows of time steps on every algorithm, of the right rows, each encoded once."""

import dataclasses
import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

import rlssl
from rlssl.auxiliary import AuxiliaryLoss, AuxiliaryLossConfig
from rlssl.auxiliary.base import MEAN_ACTION, RL_LATENTS
from rlssl.auxiliary.windows import VALID, Window, mean_over_valid
from rlssl.batches import EPISODE, STEP
from rlssl.errors import SpecError
from rlssl.registry import register_auxiliary_loss
from tests.algorithms.common.test_auxiliary_rules import ALGORITHMS


class Clock(gym.Env[np.ndarray, Any]):
    """Shows [number of the episode, step]; episodes have 5, 6, 7, 8 steps in turn."""

    observation_space = gym.spaces.Box(0, np.inf, (2,), np.float32)
    numbers = iter(range(10**9))

    def __init__(self, discrete: bool = True) -> None:
        self.action_space = (
            gym.spaces.Discrete(2) if discrete else gym.spaces.Box(-1, 1, (1,), np.float32)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.now = next(self.numbers), 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.now += 1
        ends = self.now == 5 + self.episode % 4
        terminated = ends and self.episode % 2 == 0
        return self._observation(), float(self.now), terminated, ends and not terminated, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.episode, self.now], np.float32)


class Watching(AuxiliaryLoss):
    """Keeps what it sees."""

    @dataclasses.dataclass(frozen=True)
    class Config(AuxiliaryLossConfig):
        before: int = 1
        after: int = 3

    reads = frozenset(
        {Columns.OBS, Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS, EPISODE, STEP}
    )
    seen: list[Any] = []  # noqa: RUF012 - of all instances

    def __init__(self, config: Any, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(config.before, config.after)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        latents = self.latents(batch)
        self.seen.append((batch, latents))
        values = latents.square().mean(-1)
        return {"square": mean_over_valid(values, batch[VALID])}


#: As `ALGORITHMS`; the functions of configs take an environment.
SMALL: dict[str, Any] = dict(ALGORITHMS)

register_auxiliary_loss("test_watching", Watching)
rlssl.register_env("test/Clock", lambda config: Clock())
rlssl.register_env("test/ContinuousClock", lambda config: Clock(discrete=False))


def bench_of(algorithm: str, **options: Any) -> Any:
    small, bench = SMALL[algorithm]
    env = "test/Clock" if algorithm in ("ppo", "a3c", "rainbow") else "test/ContinuousClock"
    return bench(small(env).auxiliary(test_watching=options))


@functools.cache
def watched(algorithm: str) -> tuple[Any, Any, Any]:
    """A bench after two fragments, the last batch of the loss and its latents."""
    bench = bench_of(algorithm)
    bench.update(bench.sample())
    Watching.seen.clear()
    bench.update(bench.sample())
    batch, latents = Watching.seen[-1]
    return bench, batch, latents


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_windows_hold_consecutive_steps_of_one_episode(algorithm: str) -> None:
    _, batch, _ = watched(algorithm)
    obs, valid = batch[Columns.OBS], batch[VALID]
    assert obs.shape[1] == 5 and valid[:, 1].all() and not valid.all()
    episodes, steps = obs[..., 0], obs[..., 1]
    assert torch.equal(episodes, episodes[:, 1:2].expand_as(episodes))
    expected = steps[:, 1:2] + torch.arange(-1, 4)
    assert torch.equal(steps[valid], expected[valid])
    # Steps and episodes of the columns are those that the observations show.
    assert torch.equal(batch[STEP][valid], steps[valid].long())
    numbers: dict[float, int] = {}
    for shown, number in zip(episodes[valid].tolist(), batch[EPISODE][valid].tolist(), strict=True):
        assert numbers.setdefault(shown, number) == number
    assert len(set(numbers.values())) == len(numbers) > 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_final_observations_are_valid_targets_and_nothing_follows_them(algorithm: str) -> None:
    _, batch, _ = watched(algorithm)
    episodes, steps = batch[Columns.OBS].unbind(-1)
    length = 5 + episodes % 4
    valid = batch[VALID]
    assert (valid & (steps == length)).any()
    after_end = steps[:, 1:2] + torch.arange(-1, 4) > length
    assert not (valid & after_end).any()
    # The reward of a step is its number plus one; there is none at a final observation.
    rewards = torch.where(steps < length, steps + 1, 0.0)
    followed = torch.cat([valid[:, 1:], torch.zeros_like(valid[:, :1])], dim=1)
    known = valid & (followed | (steps == length))
    assert torch.equal(batch[Columns.REWARDS][known], rewards[known])
    ends = valid & followed & (steps == length - 1) & (episodes % 2 == 0)
    assert torch.equal(batch[Columns.TERMINATEDS].bool() & followed, ends)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_latents_are_those_of_every_frame(algorithm: str) -> None:
    bench = bench_of(algorithm)
    Watching.seen.clear()
    batch = bench.batch(bench.sample())
    encoder, rows = bench.module.encoder, batch[Columns.OBS]
    with_latents = {**batch, RL_LATENTS: encoder(rows)}
    for columns in (batch, with_latents):
        bench.learner.compute_auxiliary_loss(columns)
        seen, latents = Watching.seen[-1]
        shape = seen[Columns.OBS].shape
        plain = encoder(seen[Columns.OBS].flatten(0, 1)).unflatten(0, shape[:2])
        assert torch.allclose(latents, plain, atol=1e-6)


def test_frames_of_overlapping_windows_are_encoded_once() -> None:
    bench = bench_of("a3c")
    batch = bench.batch(bench.sample(40))
    encoder, sizes = bench.module.encoder, []
    latents = encoder(batch[Columns.OBS])
    handle = encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    bench.learner.compute_auxiliary_loss({**batch, RL_LATENTS: latents})
    handle.remove()
    chunks = int(batch["chunk_begins"].sum())
    # The rows are encoded already; what is left is one frame after each chunk.
    assert sizes == [chunks] and chunks < 20


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "rainbow"])
def test_windowed_losses_have_gradients_through_every_place(algorithm: str) -> None:
    bench = bench_of(algorithm)
    Watching.seen.clear()
    batch = bench.batch(bench.sample())
    weight = next(iter(bench.module.encoder.parameters()))
    latents_of_rows = bench.module.encoder(batch[Columns.OBS])
    found = []
    for columns in (batch, {**batch, RL_LATENTS: latents_of_rows}):
        loss = bench.learner.compute_auxiliary_loss(columns)
        found.append(torch.autograd.grad(loss, weight)[0])
    seen, _ = Watching.seen[-1]
    plain = bench.module.encoder(seen[Columns.OBS][seen[VALID]]).square().mean()
    expected = torch.autograd.grad(plain, weight)[0]
    for gradient in found:
        assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_the_mean_over_valid_entries_of_all_learners() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])
    rows = mean_over_valid(values, ~values.isnan())
    assert rows.mean() == 2.0
    none = mean_over_valid(values, torch.zeros(2, 2, dtype=torch.bool))
    assert none.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("algorithm", ["ppo", "a3c"])
def test_a_window_longer_than_a_fragment_is_refused(algorithm: str) -> None:
    small, bench = SMALL[algorithm]
    config = small("test/Clock").env_runners(rollout_fragment_length=16)
    config.auxiliary(test_watching={"before": 9, "after": 8})
    with pytest.raises(SpecError, match=r"auxiliary\.test_watching: its window has 18 frames"):
        bench(config)


class NextObs(Watching):
    reads = frozenset({Columns.NEXT_OBS, MEAN_ACTION})


class WrongWindow(Watching):
    def __init__(self, config: Any, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = (1, -1)  # type: ignore[assignment]


@pytest.mark.parametrize(
    "loss, words", [(NextObs, "reads OBS|read OBS"), (WrongWindow, "must be a Window")]
)
def test_windows_that_cannot_be_given_are_refused(loss: Any, words: str) -> None:
    name = f"test_{loss.__name__}"
    register_auxiliary_loss(name, loss)
    small, bench = SMALL["ppo"]
    with pytest.raises(SpecError, match=words):
        bench(small("test/Clock").auxiliary(**{name: {}}))
