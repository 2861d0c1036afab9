"""A vector environment in which one environment can fail without the others."""

import functools
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, SupportsFloat, TypeGuard

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from rlssl.environments.building import EnvMaker
from rlssl.environments.observation_checks import misfit, observation_check
from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch
from rlssl.environments.vector_conventions import resets_at_once
from rlssl.errors import TrainingTimeoutError
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv
from rlssl.rollouts.faults import ENVIRONMENT_ERRORS, Fault

#: Errors that end the step of all environments, not only of the one that raised.
ENDS_THE_STEP = (TrainingTimeoutError, EnvironmentTimeoutError)


class IsolatedVectorEnv(SyncVectorEnv):
    """gymnasium's SyncVectorEnv with NEXT_STEP autoreset, which survives failing environments.

    If an environment raises, or returns an observation that does not fit its space, its observation
    is replaced by zeros, a `Fault` is added to `faults`, and the other environments step as usual.
    If an environment times out, the step of all ends, because the next environment may time out
    too; `failed_slot` names the environment.
    """

    faults: list[Fault]
    failed_slot: int | None

    @classmethod
    def adopt(cls, vector: SyncVectorEnv, watch: TimeoutWatch) -> "IsolatedVectorEnv":
        """Changes the class of an existing vector environment; nothing is built twice.

        Args:
            vector: A plain SyncVectorEnv with NEXT_STEP autoreset.
            watch: Gets a heartbeat before each environment's call.
        """
        vector.__class__ = cls
        assert isinstance(vector, cls)
        vector.faults, vector.failed_slot = [], None
        vector._watch = watch
        vector._fits = observation_check(vector.single_observation_space)
        return vector

    @staticmethod
    def can_adopt(vector: gym.vector.VectorEnv) -> TypeGuard[SyncVectorEnv]:
        """Whether `adopt` would change nothing but the handling of faults."""
        return (
            isinstance(vector, SyncVectorEnv)
            and type(vector) in (SyncVectorEnv, IsolatedVectorEnv)
            and isinstance(vector.env_fns, Sequence)
            and vector.autoreset_mode is AutoresetMode.NEXT_STEP
            and vector.observation_mode == "same"
        )

    _watch: TimeoutWatch
    _fits: Callable[[Any], bool]

    def __getstate__(self) -> dict[str, Any]:
        """All attributes except those of this process, which `adopt` sets again."""
        return {k: v for k, v in vars(self).items() if k not in ("_watch", "_fits")}

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets every environment."""
        self.faults.clear()
        seeds = seed if isinstance(seed, list) else _seeds(seed, self.num_envs)
        self._autoreset_envs[:] = False
        infos: dict[str, Any] = {}
        for slot, (env, env_seed) in enumerate(zip(self.envs, seeds, strict=True)):
            reset = functools.partial(env.reset, seed=env_seed, options=options)
            infos = self._observe(slot, "reset", reset, infos)
        return self._batch(), infos

    def step(self, actions: Any) -> Any:
        """Steps every environment; those that ended in the step before are reset."""
        self.faults.clear()
        infos: dict[str, Any] = {}
        watch, fits = self._watch, self._fits
        observations = self._env_obs
        array = self._observations if isinstance(self._observations, np.ndarray) else None
        rewards = [0.0] * self.num_envs
        terminations, truncations = [False] * self.num_envs, [False] * self.num_envs
        resets = self._autoreset_envs.tolist()
        for slot, (env, action) in enumerate(zip(self.envs, self._each(actions), strict=True)):
            watch.heartbeats += 1
            try:
                if resets[slot]:
                    observation, info = env.reset()
                    reward: SupportsFloat = 0.0
                    terminated = truncated = False
                else:
                    observation, reward, terminated, truncated, info = env.step(action)
                if not fits(observation):
                    raise misfit(observation, self.single_observation_space)
                rewards[slot] = float(reward)
                terminations[slot], truncations[slot] = bool(terminated), bool(truncated)
                if info:
                    infos = self._add_info(infos, info, slot)
            except ENVIRONMENT_ERRORS as error:
                self._record_fault(slot, "reset" if resets[slot] else "step", error)
                observation = self._env_obs[slot]
                terminations[slot] = truncations[slot] = False
            observations[slot] = observation
            if array is not None:
                array[slot] = observation
        terminated_array, truncated_array = np.array([terminations, truncations])
        self._autoreset_envs = terminated_array | truncated_array
        return (
            self._batch() if array is None else array.copy(),
            np.array(rewards),
            terminated_array,
            truncated_array,
            infos,
        )

    def rebuild_slot(self, slot: int, seed: int | None) -> None:
        """Builds one environment again, with another seed.

        Raises:
            Exception: Whatever the environment raises.
        """
        self._autoreset_envs[slot] = False
        assert isinstance(self.env_fns, Sequence)
        maker = self.env_fns[slot]
        self.envs[slot] = (maker.with_seed(seed) if isinstance(maker, EnvMaker) else maker)()

    def reset_slot(self, slot: int, seed: int | None) -> None:
        """Resets one environment.

        Raises:
            Exception: Whatever the environment raises.
            BadObservationError: If the observation does not fit its space.
        """
        observation, _ = self.envs[slot].reset(seed=seed)
        if not self._fits(observation):
            raise misfit(observation, self.single_observation_space)
        self._env_obs[slot] = observation

    def latest_observation(self, slot: int) -> Any:
        """The latest observation of one environment: a struct of [1, ...]."""
        return tree.map_structure(lambda leaf: np.asarray(leaf)[None], self._env_obs[slot])

    def _each(self, actions: Any) -> Iterable[Any]:
        """The action of each environment; a discrete action as int, which is the fastest."""
        if isinstance(self.single_action_space, gym.spaces.Discrete):
            return actions.tolist()
        return iterate(self.action_space, actions)

    def _observe(
        self, slot: int, method: str, call: Callable[[], Any], infos: dict[str, Any]
    ) -> dict[str, Any]:
        self._watch.heartbeats += 1
        try:
            observation, info = call()
            if not self._fits(observation):
                raise misfit(observation, self.single_observation_space)
            infos = self._add_info(infos, info, slot)
        except ENVIRONMENT_ERRORS as error:
            self._record_fault(slot, method, error)
            return infos
        self._env_obs[slot] = observation
        return infos

    def _record_fault(self, slot: int, method: str, error: BaseException) -> None:
        if isinstance(error, ENDS_THE_STEP):
            self.failed_slot = slot
            raise error
        self.faults.append(Fault(method, error, slot))
        self._env_obs[slot] = self._blank()

    def _blank(self) -> Any:
        batch_of_one = create_empty_array(self.single_observation_space, n=1, fn=np.zeros)
        return tree.map_structure(lambda leaf: leaf[0], batch_of_one)

    def _batch(self) -> Any:
        self._observations = concatenate(
            self.single_observation_space, self._env_obs, self._observations
        )
        return deepcopy(self._observations) if self.copy else self._observations


def _seeds(seed: int | None, num_envs: int) -> list[int | None]:
    return [None if seed is None else seed + slot for slot in range(num_envs)]


def is_plain_loop(vector: gym.vector.VectorEnv) -> bool:
    """Whether this is gymnasium's own loop over environments, with nothing around it."""
    loops = (SyncVectorEnv, IsolatedVectorEnv, AsyncVectorEnv)
    return type(vector) in loops and not resets_at_once(vector)


def failed_slot(vector: gym.vector.VectorEnv) -> int | None:
    """The slot whose error a vector environment has just raised; None if it is unknown."""
    if isinstance(vector, IsolatedVectorEnv):
        return vector.failed_slot
    if isinstance(vector, DoubleBufferedVectorEnv):
        for half, slots in zip(vector.halves, vector.slots, strict=True):
            failed_in_half = failed_slot(half.unwrapped)
            if failed_in_half is not None:
                return int(slots.start) + failed_in_half
        return None
    if not isinstance(vector, AsyncVectorEnv):
        return None
    # gymnasium closes the pipes of processes that reported an error.
    failed = [slot for slot, pipe in enumerate(vector.parent_pipes) if pipe is None]
    return failed[0] if failed else None
