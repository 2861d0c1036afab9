"""Rounds of DAgger without Ray: who acts, what is stored, what is refused."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlssl
from rlssl.algorithms.dagger.dagger import DAggerConfig
from rlssl.algorithms.dagger.rounds import beta_of, find_expert, play
from rlssl.environments import make_env
from rlssl.errors import SpecError
from rlssl.policy import Policy


class Line(gym.Env):
    """Moves along a line; the reward is the place; ends after 30 steps."""

    observation_space = gym.spaces.Dict({"x": gym.spaces.Box(-99.0, 99.0, (1,), np.float32)})
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.place = 0.0
        self.taken: list[float] = []
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.place += float(action[0])
        self.taken.append(float(action[0]))
        return self._observation(), self.place, False, len(self.taken) == 30, {}

    def _observation(self) -> dict[str, np.ndarray]:
        return {"x": np.array([self.place], np.float32)}


rlssl.register_env("test/line", lambda config: Line())


class Homing:
    """Goes back to 0, at most one unit a step; remembers what it was asked and told."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.told: list[Any] = []

    def reset(self, observation: Any) -> None:
        self.asked, self.told = [], []

    def act(self, observation: Any, previous_action: Any) -> np.ndarray:
        self.asked.append(float(observation["x"][0]))
        self.told.append(previous_action)
        return np.clip(-observation["x"], -1.0, 1.0).astype(np.float32)


def away(observation: Any) -> np.ndarray:
    return np.array([2.0], np.float32)


def test_expert_labels_every_state_that_the_policy_visits() -> None:
    env, expert = Line(), Homing()
    found = play(env, expert, away, beta=0.0, seed=0)
    episode = found.labeled
    # The policy goes from 0 to 2, 4, ..., 60; the expert's answers are 0, then -1.
    assert env.taken == [2.0] * 30
    assert episode.observations["x"][:, 0].tolist() == [2.0 * t for t in range(31)]
    assert episode.actions[:, 0].tolist() == [0.0] + [-1.0] * 29
    assert expert.asked == [2.0 * t for t in range(30)]
    assert expert.told[0] is None and expert.told[1] == 2.0
    assert (episode.terminated, episode.truncated) == (False, True)
    # 2 + 4 + ... + 60
    assert found.score == 930.0 and found.expert_share == 0.0


def test_with_beta_1_the_expert_acts_alone_and_the_policy_is_not_asked() -> None:
    def never(observation: Any) -> Any:
        raise AssertionError("asked")

    env = Line()
    found = play(env, Homing(), never, beta=1.0, seed=0)
    assert found.expert_share == 1.0
    assert env.taken == found.labeled.actions[:, 0].tolist()


def test_with_beta_between_each_step_is_drawn_and_the_seed_decides() -> None:
    shares, takens = [], []
    for seed in (3, 3, 4):
        env = Line()
        found = play(env, Homing(), away, beta=0.5, seed=seed)
        labels = found.labeled.actions[:, 0].tolist()
        by_expert = [taken == label for taken, label in zip(env.taken, labels, strict=True)]
        assert found.expert_share == np.mean(by_expert)
        shares.append(found.expert_share)
        takens.append(env.taken)
    assert takens[0] == takens[1] != takens[2]
    assert 0.2 < np.mean(shares) < 0.8


class InPlace(Line):
    """Writes every observation into one array, and clips actions in it."""

    seen = np.zeros(1, np.float32)

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        np.clip(action, -0.5, 0.5, out=action)
        return super().step(action)

    def _observation(self) -> dict[str, np.ndarray]:
        self.seen[0] = self.place
        return {"x": self.seen}


def test_arrays_that_an_environment_changes_are_copied() -> None:
    episode = play(InPlace(), Homing(), away, beta=0.0, seed=0).labeled
    # The policy's 2 is cut at 0.5; the expert's answers, at most one unit, are not.
    assert episode.observations["x"][:, 0].tolist() == [0.5 * t for t in range(31)]
    assert episode.actions[:, 0].tolist() == [0.0, -0.5] + [-1.0] * 28


def test_an_episode_without_an_end_is_truncated() -> None:
    episode = play(Line(), Homing(), away, beta=0.0, seed=0, max_steps=4).labeled
    assert (len(episode), episode.terminated, episode.truncated) == (4, False, True)


def test_beta_falls_linearly() -> None:
    # `imitation`: 15 rounds; round 5 has 1 - 5 / 15.
    assert beta_of(5, 15) == pytest.approx(2 / 3)
    assert [beta_of(number, 15) for number in (0, 15, 40)] == [1.0, 0.0, 0.0]


def test_exported_policy_is_an_expert_if_its_spaces_agree(tmp_path: Path) -> None:
    env = make_env({"id": "Pendulum-v1"})
    spaces = {"default_policy": (env.observation_space, env.action_space)}
    spec = rlssl.PPOConfig().get_rl_module_spec(spaces=spaces, inference_only=True)
    settings = {"algorithm": "ppo", "model": spec.model_config, "plugins": []}
    settings |= {"observation_space": env.observation_space, "action_space": env.action_space}
    settings |= {"normalize_actions": True, "clip_actions": False}
    policy = Policy(spec.build(), settings)
    policy.save(tmp_path)
    expert = find_expert(str(tmp_path), env)
    observation, _ = env.reset(seed=0)
    expert.reset(observation)
    assert np.array_equal(expert.act(observation, None), policy.act(observation))
    with pytest.raises(SpecError, match="has observation_space"):
        find_expert(str(tmp_path), make_env({"id": "CartPole-v1"}))
    with pytest.raises(SpecError, match="'nobody' is neither expert/NAME"):
        find_expert("nobody", env)


def dagger(**training: Any) -> Any:
    return DAggerConfig().environment("test/line").training(**training)


def test_what_dagger_cannot_use_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="dagger needs an expert that labels"):
        dagger().validate()
    with pytest.raises(SpecError, match="'exports/a' must be expert/NAME"):
        dagger(expert="exports/a").validate()
    with pytest.raises(SpecError, match="dagger makes its own data"):
        dagger(expert="expert/pendulum").data(path=str(tmp_path))
    with pytest.raises(SpecError, match="cannot make the labels of earlier rounds again"):
        dagger(expert="expert/pendulum").experiment(checkpoint_replay=False).validate()
    with pytest.raises(SpecError, match=r"training.rounds must be >= 1; got 0"):
        dagger(expert="expert/pendulum", rounds=0).validate()
