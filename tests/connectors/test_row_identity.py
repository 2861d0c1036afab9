"""The columns EPISODE, STEP and COPY, with several copies, EnvRunners, fragments and restarts."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

import rlssl
from rlssl.auxiliary import COPY, EPISODE, STEP, VALID, AuxiliaryLoss, Window
from rlssl.batches import copy_number, episode_number
from rlssl.registry import register_auxiliary_loss
from tests.algorithms.common.test_auxiliary_rules import ALGORITHMS


class Copies(gym.Env[np.ndarray, Any]):
    """Shows [number of the copy, number of its episode, step]; episodes have 3 to 6 steps."""

    action_space: gym.Space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(-1, np.inf, (3,), np.float32)
    copies = itertools.count()

    def __init__(self) -> None:
        self.copy, self.episode = next(self.copies), -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.now = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.now += 1
        ends = self.now == 3 + (self.copy + self.episode) % 4
        return self._observation(), 1.0, ends, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.copy, self.episode, self.now], np.float32)


class Numbers(AuxiliaryLoss):
    """Keeps what it sees."""

    reads = frozenset({Columns.OBS, EPISODE, STEP, COPY})
    seen: list[Any] = []  # noqa: RUF012 - of all instances

    def losses(self, batch: Any) -> dict[str, Tensor]:
        self.seen.append(batch)
        latents = self.latents(batch)
        return {"square": latents.flatten(1).square().mean(-1)}


class NumbersOfWindows(Numbers):
    """The same in windows."""

    window = Window(before=1, after=1)


register_auxiliary_loss("test_numbers", Numbers)
register_auxiliary_loss("test_numbers_of_windows", NumbersOfWindows)
rlssl.register_env("test/Copies", lambda config: Copies())


def rows_of(algorithm: str, loss: str) -> tuple[Tensor, Tensor]:
    """[M, 3] each: what the observations show, and EPISODE, STEP and COPY.

    Two EnvRunners with three copies each give three fragments; then the second one is restarted.
    """
    small, bench_class = ALGORITHMS[algorithm]
    config = small("test/Copies").env_runners(num_envs_per_env_runner=3)
    bench = bench_class(config.auxiliary(**{loss: {}}))

    def another_runner() -> Any:
        return config.env_runner_cls(config=config, worker_index=0, num_workers=0)

    runners = [bench.runner, another_runner()]
    if algorithm == "a3c":
        runners[1].attach(bench.learner)
    Numbers.seen.clear()
    for fragment in range(4):
        if fragment == 3:
            runners[1] = another_runner()
            if algorithm == "a3c":
                runners[1].attach(bench.learner)
        episodes = [
            chunk
            for runner in runners
            for chunk in runner.sample(num_timesteps=30, random_actions=False)
        ]
        bench.update(episodes)
    columns = [
        torch.cat([_valid(batch, key) for batch in Numbers.seen])
        for key in (Columns.OBS, EPISODE, STEP, COPY)
    ]
    return columns[0].long(), torch.stack([column.long() for column in columns[1:]], dim=1)


def _valid(batch: Any, key: str) -> Tensor:
    value: Tensor = batch[key]
    return value[batch[VALID]] if VALID in batch else value


@pytest.mark.parametrize("loss", ["test_numbers", "test_numbers_of_windows"])
@pytest.mark.parametrize("algorithm", ["ppo", "a3c", "rainbow"])
def test_numbers_tell_copies_episodes_and_steps_apart(algorithm: str, loss: str) -> None:
    shown, numbers = rows_of(algorithm, loss)
    episode, step, copy = numbers.unbind(dim=1)
    assert torch.equal(step, shown[:, 2])
    assert torch.equal(copy, copy_number(episode))
    copies = {tuple(pair) for pair in torch.stack([shown[:, 0], copy], dim=1).tolist()}
    # Three copies of the first EnvRunner, of the second, and of the second after its restart.
    assert len(copies) == len(dict(copies)) == len({number for _, number in copies}) == 9
    pairs = torch.cat([shown[:, :2], episode[:, None]], dim=1)
    episodes = {(one, count): number for one, count, number in pairs.tolist()}
    assert len(episodes) == len(set(episodes.values()))
    # Consecutive episodes of a copy have consecutive numbers.
    followers = [key for key in episodes if (key[0], key[1] + 1) in episodes]
    assert len(followers) > 9
    assert all(episodes[one, count + 1] - episodes[one, count] == 1 for one, count in followers)


def test_numbers_of_episodes_fit_and_repeat_only_after_eight_million() -> None:
    numbers = [episode_number(f"5f3a.{count}") for count in (0, 1, 2**23 - 1, 2**23)]
    assert numbers[1] == numbers[0] + 1 and numbers[3] == numbers[0]
    assert len({copy_number(number) for number in numbers}) == 1
    assert all(0 <= number < 2**63 for number in numbers)
    # Ids of RLlib's stock EnvRunner have no number: each is a copy of its own.
    alone = [copy_number(episode_number(name)) for name in ("5f3a", "5f3b", "5f3a.1.0")]
    assert len(set(alone)) == 3
