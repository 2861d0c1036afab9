"""Wrappers that set ``info["learning_reward"]``; the rewards themselves, and scores, stay."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.environments.rewards.options import parse_shaping
from rlssl.environments.vector_conventions import resets_at_once, row_of
from rlssl.environments.vector_infos import vector_info
from rlssl.errors import SpecError
from rlssl.plugins import resolve

#: Key of an info: the reward to learn from.
LEARNING_REWARD = "learning_reward"


class NoReward(gym.Wrapper):
    """An environment whose reward to learn from is 0."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, LEARNING_REWARD: 0.0}


class NoRewardVector(gym.vector.VectorWrapper):
    """A vector environment whose rewards to learn from are 0."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in every environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        infos = _with_rewards(infos, np.zeros(self.num_envs))
        return observations, rewards, terminated, truncated, infos


class Shaped(gym.Wrapper):
    """Adds potential-based shaping to the reward to learn from.

    ``r' = r + gamma * Phi(s') - Phi(s)``, with Phi(s') = 0 where the episode terminates, also where
    ``info["soft_terminated"]`` says that learning ends. A truncation keeps Phi(s'). So the best
    policy stays the same, and with it the action values, up to ``Q' = Q - Phi``.

    Source:
        Ng, Harada and Russell 1999, "Policy invariance under reward transformations".
    """

    def __init__(self, env: gym.Env, potential: Callable[[Any], float], gamma: float) -> None:
        super().__init__(env)
        self._potential, self._gamma, self._before = _checked(potential), gamma, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._before = self._potential(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        after = self._potential(observation)
        ends = terminated or bool(info.get("soft_terminated"))
        shaping = self._gamma * (0.0 if ends else after) - self._before
        self._before = after
        given = info.get(LEARNING_REWARD)
        learned = float(reward if given is None else given) + shaping
        return observation, reward, terminated, truncated, {**info, LEARNING_REWARD: learned}


class ShapedVector(gym.vector.VectorWrapper):
    """As `Shaped`, for the vector environment of a suite."""

    def __init__(
        self, env: gym.vector.VectorEnv, potential: Callable[[Any], float], gamma: float
    ) -> None:
        super().__init__(env)
        self._potential, self._gamma = _checked(potential), gamma
        self._resets_at_once = resets_at_once(env)
        self._before = np.zeros(env.num_envs)
        # Environments that only reset in the next step (NEXT_STEP autoreset).
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Starts episodes, only those of a ``reset_mask`` if given."""
        inner: Any = self.env  # gymnasium's base class declares a single seed
        observations, infos = inner.reset(seed=seed, options=options)
        begins = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs)), np.bool_)
        self._before = np.where(begins, self._of(observations), self._before)
        self._ended &= ~begins
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in every environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        terminated_, over = (
            np.asarray(terminated, np.bool_),
            np.logical_or(terminated, truncated),
        )
        now = self._of(observations)
        after = self._before_reset(now, over, infos) if self._resets_at_once else now
        ends = terminated_ | _given(infos, "soft_terminated", np.zeros(self.num_envs)).astype(bool)
        shaping = self._gamma * np.where(ends, 0.0, after) - self._before
        learned = _given(infos, LEARNING_REWARD, np.asarray(rewards, np.float64))
        learned = learned + np.where(self._ended, 0.0, shaping)
        self._before = now
        if not self._resets_at_once:
            self._ended = over
        return observations, rewards, terminated, truncated, _with_rewards(infos, learned)

    def _of(self, observations: Any) -> np.ndarray:
        rows = (self._potential(row_of(observations, i)) for i in range(self.num_envs))
        return np.fromiter(rows, np.float64, self.num_envs)

    def _before_reset(
        self, now: np.ndarray, over: np.ndarray, infos: Mapping[str, Any]
    ) -> np.ndarray:
        """[N], the potentials of the last observations of episodes, where an episode ended."""
        after = now.copy()
        for i in np.flatnonzero(over):
            after[i] = self._potential(row_of(infos["final_obs"], int(i)))
        return after


def without_reward(env: gym.Env, value: Any, config: Mapping[str, Any]) -> gym.Env:
    """Wraps an environment for ``env.reward: none``."""
    del value, config
    return NoReward(env)


def without_rewards(
    env: gym.vector.VectorEnv, value: Any, config: Mapping[str, Any]
) -> gym.vector.VectorEnv:
    """Wraps a vector environment for ``env.reward: none``."""
    del value, config
    return NoRewardVector(env)


def shaped(env: gym.Env, value: Any, config: Mapping[str, Any]) -> gym.Env:
    """Wraps an environment for ``env.shaping``.

    Raises:
        SpecError: If the discount is not given.
    """
    del config
    return Shaped(env, *_parsed(value))


def shaped_vector(
    env: gym.vector.VectorEnv, value: Any, config: Mapping[str, Any]
) -> gym.vector.VectorEnv:
    """Wraps a vector environment for ``env.shaping``.

    Raises:
        SpecError: If the discount is not given.
    """
    del config
    return ShapedVector(env, *_parsed(value))


def _parsed(value: Any) -> tuple[Callable[[Any], float], float]:
    parsed = parse_shaping(value)
    potential, gamma = parsed.potential, parsed.gamma
    if gamma is None:
        raise SpecError(
            "env.shaping needs the discount of the agent: a training gives its own; elsewhere, "
            f"write shaping: {{potential: '{potential}', gamma: 0.99}}."
        )
    return resolve(potential), gamma


def _checked(potential: Callable[[Any], float]) -> Callable[[Any], float]:
    def checked(observation: Any) -> float:
        value = float(potential(observation))
        if not math.isfinite(value):
            name = f"{potential.__module__}:{getattr(potential, '__qualname__', potential)}"
            raise ValueError(f"env.shaping: {name} gave {value} for {observation!r}.")
        return value

    return checked


def _given(infos: Mapping[str, Any], key: str, otherwise: np.ndarray) -> np.ndarray:
    given = vector_info(infos, key, len(otherwise))
    return otherwise if given is None else np.where(given[1], given[0], otherwise)


def _with_rewards(infos: Mapping[str, Any], rewards: np.ndarray) -> dict[str, Any]:
    mask = np.ones(len(rewards), np.bool_)
    return {**infos, LEARNING_REWARD: rewards, f"_{LEARNING_REWARD}": mask}
