"""Environments that fail on purpose, to test how training handles it: ``faulty/<any id>``.

Options: `rlssl_envs.options.Faulty`; others go to the wrapped environment. Each kind of fault is an
option, its probability in one call.

- ``crash_in_reset``, ``crash_in_step``: raises `InjectedFaultError`.
- ``stall``: sleeps for ``stall_s`` seconds before the step, so it times out.
- ``wrong_shape``, ``wrong_dtype``, ``nan_observation``: spoils the observation of reset or step.
- ``nan_reward``, ``huge_reward``: the reward is nan, or 1e30.

The same options are arguments of a wrapper for any gymnasium environment:
``FaultyEnv(env, nan_reward=0.1)``. docs/faults.md describes how rlssl handles each fault.
"""

import time
from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import tree
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from rlssl.environments import env_options, make_env
from rlssl.errors import SpecError, UnknownNameError

#: The faults; each is an option with its probability.
FAULTS = (
    "crash_in_reset",
    "crash_in_step",
    "stall",
    "wrong_shape",
    "wrong_dtype",
    "nan_observation",
    "nan_reward",
    "huge_reward",
)

_PREFIX = "faulty/"
_OPTIONS = (*FAULTS, "stall_s", "after", "fault_seed")

HUGE_REWARD = 1e30


class InjectedFaultError(RuntimeError):
    """An injected crash."""


def ids() -> list[str]:
    """Lists one example; any id may follow the prefix."""
    return [f"{_PREFIX}CartPole-v1"]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds the environment whose id follows the prefix, with faults.

    Raises:
        SpecError: An option is out of range. The errors of `make_env` are raised too.
    """
    options = env_options(config)
    faults = {key: options.pop(key) for key in _OPTIONS if key in options}
    inner = {"id": config["id"].removeprefix(_PREFIX), **options}
    if not inner["id"] or inner["id"].startswith(_PREFIX):
        raise UnknownNameError(f"{config['id']!r} must name an environment: faulty/CartPole-v1.")
    env = make_env(
        inner, split=config["split"], worker_index=config["worker_index"], seed=config["seed"]
    )
    return FaultyEnv(env, seed=config["seed"], **faults)


class FaultyEnv(gym.Wrapper, RecordConstructorArgs):
    """Adds random faults to an environment; equal seeds give equal faults."""

    def __init__(
        self,
        env: gym.Env,
        *,
        stall_s: float = 3600.0,
        after: int = 0,
        fault_seed: int = 0,
        seed: int | None = None,
        **probabilities: float,
    ) -> None:
        """Wraps an environment.

        Args:
            env: The environment.
            stall_s: Seconds that ``stall`` sleeps; >= 0.
            after: Number of first steps without faults; >= 0.
            fault_seed: Seed of the faults; >= 0.
            seed: Combined with ``fault_seed`` until a reset with a seed; >= 0.
            **probabilities: Name from `FAULTS` -> probability in one call; in [0, 1].

        Raises:
            SpecError: An option is unknown or out of range.
        """
        options: dict[str, Any] = {"stall_s": stall_s, "after": after, "fault_seed": fault_seed}
        options |= {"seed": seed, **probabilities}
        RecordConstructorArgs.__init__(self, **options)
        super().__init__(env)
        for key, value in {"stall_s": stall_s, "after": after, "fault_seed": fault_seed}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise SpecError(f"env.{key} must be a number >= 0; got {value!r}.")
        for key, probability in probabilities.items():
            if key not in FAULTS:
                raise SpecError(f"unknown fault {key!r}; known: {', '.join(FAULTS)}.")
            if isinstance(probability, bool) or not isinstance(probability, int | float):
                raise SpecError(f"env.{key} must be a number in [0, 1]; got {probability!r}.")
            if not 0 <= probability <= 1:
                raise SpecError(f"env.{key} must be in [0, 1]; got {probability!r}.")
        self._chances = {key: probabilities.get(key, 0.0) for key in FAULTS}
        self._stall_s, self._after, self._fault_seed = stall_s, after, fault_seed
        self._steps = 0
        self._seed_faults(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets, or injects a fault."""
        if seed is not None:
            self._seed_faults(seed)
        if self._happens("crash_in_reset"):
            raise InjectedFaultError(f"injected crash in reset after {self._steps} steps")
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_faults(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Steps, or injects a fault."""
        self._steps += 1
        if self._happens("stall"):
            time.sleep(self._stall_s)
        if self._happens("crash_in_step"):
            raise InjectedFaultError(f"injected crash in step {self._steps}")
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._happens("nan_reward"):
            reward = float("nan")
        if self._happens("huge_reward"):
            reward = HUGE_REWARD
        return self._with_faults(observation), reward, terminated, truncated, info

    def _seed_faults(self, seed: int | None) -> None:
        own = () if seed is None else (seed,)
        self._random = np.random.default_rng((self._fault_seed, *own))

    def _happens(self, fault: str) -> bool:
        # Drawn for every fault, so that one probability does not change the other faults.
        drawn = self._random.random() < self._chances[fault]
        return bool(drawn) and self._steps > self._after

    def _with_faults(self, observation: Any) -> Any:
        if self._happens("wrong_shape"):
            observation = tree.map_structure(lambda x: np.append(x, x), observation)
        if self._happens("wrong_dtype"):
            observation = tree.map_structure(_with_other_dtype, observation)
        if self._happens("nan_observation"):
            observation = self._with_nan(observation, self.observation_space)
        return observation

    def _with_nan(self, observation: Any, space: gym.Space) -> Any:
        if isinstance(space, gym.spaces.Dict):
            return {key: self._with_nan(observation[key], part) for key, part in space.items()}
        if isinstance(space, gym.spaces.Tuple):
            pairs = zip(observation, space, strict=True)
            return tuple(self._with_nan(*pair) for pair in pairs)
        if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
            return np.full_like(observation, np.nan)
        # Integers cannot be nan.
        return observation


def _with_other_dtype(leaf: Any) -> Any:
    array = np.asarray(leaf)
    return array.astype(np.float64 if array.dtype != np.float64 else np.float32)
