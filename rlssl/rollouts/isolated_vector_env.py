"""A vector environment in which one environment's failure is its own."""

import functools
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, SupportsFloat, TypeGuard

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from rlssl.environments.observation_checks import misfit, observation_check
from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch
from rlssl.errors import TrainingTimeoutError
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv
from rlssl.rollouts.faults import ENVIRONMENTS_OWN, Fault

#: What is not left to one environment.
ENDS_THE_STEP = (TrainingTimeoutError, EnvironmentTimeoutError)


class IsolatedVectorEnv(SyncVectorEnv):
    """gymnasium's SyncVectorEnv with NEXT_STEP autoreset, which survives its environments.

    One that raises, or gives an observation that does not fit its space, leaves zeros in its place,
    and a `Fault` in `faults`; the others step as ever. One that stands still ends the step of all,
    since the next one might, too, and is named by `culprit`.
    """

    faults: list[Fault]
    culprit: int | None

    @classmethod
    def adopt(cls, vector: SyncVectorEnv, watch: TimeoutWatch) -> "IsolatedVectorEnv":
        """Gives an existing vector environment this class; its environments are not built twice.

        Args:
            vector: A plain SyncVectorEnv with NEXT_STEP autoreset.
            watch: Told whenever it is the next environment's turn.
        """
        vector.__class__ = cls
        assert isinstance(vector, cls)
        vector.faults, vector.culprit = [], None
        vector._watch = watch
        vector._fits = observation_check(vector.single_observation_space)
        return vector

    @staticmethod
    def can_adopt(vector: gym.vector.VectorEnv) -> TypeGuard[SyncVectorEnv]:
        """Whether nothing but this class's own additions would change."""
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
        """Everything but what belongs to this process, which `adopt` gives."""
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
            watch.beats += 1
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
            except ENVIRONMENTS_OWN as error:
                self._fail(slot, "reset" if resets[slot] else "step", error)
                observation, info = self._env_obs[slot], None
            observations[slot] = observation
            if array is not None:
                array[slot] = observation
            if info:
                infos = self._add_info(infos, info, slot)
        terminated_array, truncated_array = np.array([terminations, truncations])
        self._autoreset_envs = terminated_array | truncated_array
        return (
            self._batch() if array is None else array.copy(),
            np.array(rewards),
            terminated_array,
            truncated_array,
            infos,
        )

    def build(self, slot: int) -> None:
        """Builds one environment anew, as it was built at first.

        Raises:
            Exception: The environment's own.
        """
        self._autoreset_envs[slot] = False
        assert isinstance(self.env_fns, Sequence)
        self.envs[slot] = self.env_fns[slot]()

    def reset_slot(self, slot: int, seed: int | None) -> None:
        """Resets one environment.

        Raises:
            Exception: The environment's own.
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
        """The action of each environment; discrete ones as int, which is what is fastest to use."""
        if isinstance(self.single_action_space, gym.spaces.Discrete):
            return actions.tolist()
        return iterate(self.action_space, actions)

    def _observe(
        self, slot: int, method: str, call: Callable[[], Any], infos: dict[str, Any]
    ) -> dict[str, Any]:
        self._watch.beats += 1
        try:
            observation, info = call()
            if not self._fits(observation):
                raise misfit(observation, self.single_observation_space)
        except ENVIRONMENTS_OWN as error:
            self._fail(slot, method, error)
            return infos
        self._env_obs[slot] = observation
        return self._add_info(infos, info, slot)

    def _fail(self, slot: int, method: str, error: BaseException) -> None:
        if isinstance(error, ENDS_THE_STEP):
            self.culprit = slot
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


def culprit(vector: gym.vector.VectorEnv) -> int | None:
    """The slot whose failure a vector environment has just raised, where that can be known."""
    if isinstance(vector, IsolatedVectorEnv):
        return vector.culprit
    if isinstance(vector, DoubleBufferedVectorEnv):
        for half, slots in zip(vector.halves, vector.slots, strict=True):
            failed_in_half = culprit(half.unwrapped)
            if failed_in_half is not None:
                return int(slots.start) + failed_in_half
        return None
    if not isinstance(vector, AsyncVectorEnv):
        return None
    # gymnasium closes the pipes of processes that reported an error.
    failed = [slot for slot, pipe in enumerate(vector.parent_pipes) if pipe is None]
    return failed[0] if failed else None
