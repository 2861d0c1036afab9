"""gymnasium's conventions for the results of vector environments: kept, or refused in words."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector import AutoresetMode

from rlssl.environments.observation_checks import misfit, observation_check
from rlssl.environments.vector_infos import READ_KEYS, JoinedInfos, copied, vector_info

#: What to do about a vector environment that breaks a convention.
FIX = "Correct make_vec, or set env_runners.vectorize to sync."


class ConventionError(ValueError):
    """A vector environment does not keep a convention of gymnasium."""


def autoreset_mode(vector: gym.vector.VectorEnv) -> AutoresetMode | None:
    """The autoreset mode that a vector environment says that it has; None if it names none.

    Example:
        >>> autoreset_mode(gym.make_vec("CartPole-v1", num_envs=2))
        <AutoresetMode.NEXT_STEP: 'NextStep'>
    """
    # Not from metadata, which gymnasium's loops share with all other loops over the same class.
    own = getattr(vector.unwrapped, "autoreset_mode", None)
    mode = own if isinstance(own, AutoresetMode) else vector.metadata.get("autoreset_mode")
    return next((one for one in AutoresetMode if mode in (one, one.value)), None)


def resets_at_once(vector: gym.vector.VectorEnv) -> bool:
    """Whether a vector environment says that it resets in the step that ends an episode."""
    return autoreset_mode(vector) is AutoresetMode.SAME_STEP


class AsyncSteps(Protocol):
    """A vector environment that can step while its caller does something else.

    gymnasium's AsyncVectorEnv is one. No other method may be called between these two.
    """

    def step_async(self, actions: Any) -> None:
        """Begins a step of every environment, with actions [N, ...]."""

    def step_wait(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Waits for the step to finish and returns what ``step`` would."""


def can_step_async(vector: gym.vector.VectorEnv) -> TypeGuard[Any]:
    """Whether a vector environment has the methods of `AsyncSteps`."""
    return all(callable(getattr(vector, name, None)) for name in ("step_async", "step_wait"))


class VectorConventions:
    """Checks what a vector environment returns, and brings it into gymnasium's form.

    Example:
        >>> conventions = VectorConventions(gym.make_vec("CartPole-v1", num_envs=2))
        >>> ends = np.array([0, 1], np.uint8)
        >>> results = np.zeros((2, 4), np.float32), np.ones(2), ends, ends, {}
        >>> conventions.checked(results)[2]
        array([False,  True])
    """

    def __init__(self, vector: gym.vector.VectorEnv, *, infos_type: type = dict) -> None:
        """Reads what an environment says about itself.

        Args:
            vector: The environment.
            infos_type: Type of the infos; list if a wrapper (`InfosToList`) makes lists of them.
        """
        self._infos_type: Any = infos_type
        self._num_envs = vector.num_envs
        self._space = vector.single_observation_space
        self._fits = observation_check(self._space)
        self._resets_at_once = resets_at_once(vector)

    def checked(self, results: Any) -> tuple[Any, Any, np.ndarray, np.ndarray, Any]:
        """The results of a step, with boolean ends and, for SAME_STEP autoreset, own final values.

        Args:
            results: What ``step`` returned.

        Raises:
            ConventionError: Naming the value and gymnasium's convention.
        """
        if not isinstance(results, tuple) or len(results) != 5:
            raise ConventionError(
                "step() must return (observations, rewards, terminated, truncated, infos); got "
                f"{type(results).__name__}: {results!r}. {FIX}"
            )
        observations, rewards, terminated, truncated, infos = results
        terminated = self._ends("terminated", terminated)
        truncated = self._ends("truncated", truncated)
        rewards = self._rewards(rewards)
        if not isinstance(infos, self._infos_type):
            raise ConventionError(
                f"infos must be a dict of arrays; got {type(infos).__name__}: {infos!r}. {FIX}"
            )
        if self._infos_type is list:
            return observations, rewards, terminated, truncated, infos
        if self._resets_at_once:
            over = terminated | truncated
            if np.count_nonzero(over):
                infos = self._with_final_values(dict(infos), over, observations)
        if infos:
            self._check_infos(infos)
        return observations, rewards, terminated, truncated, infos

    def _ends(self, name: str, values: Any) -> np.ndarray:
        array: np.ndarray = np.asarray(values)
        if array.shape != (self._num_envs,) or array.dtype.kind not in "biuf":
            raise ConventionError(self._wrong_array(name, "booleans", array))
        return array if array.dtype == np.bool_ else array.astype(np.bool_)

    def _rewards(self, values: Any) -> np.ndarray:
        array: np.ndarray = np.asarray(values)
        if array.shape != (self._num_envs,) or array.dtype.kind not in "biuf":
            raise ConventionError(self._wrong_array("rewards", "numbers", array))
        return array

    def _wrong_array(self, name: str, kind: str, array: np.ndarray) -> str:
        return (
            f"{name} of step() must be {kind} of shape ({self._num_envs},), one for each "
            f"environment; got shape {array.shape} and dtype {array.dtype}. {FIX}"
        )

    def _check_infos(self, infos: Mapping[str, Any]) -> None:
        for key in READ_KEYS:
            if key in infos or "final_info" in infos:
                try:
                    vector_info(infos, key, self._num_envs)
                except ValueError as error:
                    raise ConventionError(f"{error} {FIX}") from error

    def _with_final_values(
        self, infos: dict[str, Any], over: np.ndarray, observations: Any
    ) -> dict[str, Any]:
        """The infos of a step in which environments ended and were reset.

        ``final_obs`` becomes copies of the last observations, and ``final_info`` a dict of arrays.
        """
        # Before gymnasium 1.0 the key was final_observation.
        key = "final_obs" if infos.get("final_obs") is not None else "final_observation"
        given = infos.get(key)
        mask = np.broadcast_to(np.asarray(infos.get(f"_{key}", over), np.bool_), over.shape)
        final = np.full(self._num_envs, None, dtype=object)
        for slot in np.flatnonzero(over).tolist():
            last = None if given is None or not mask[slot] else row_of(given, slot)
            if last is None:
                raise ConventionError(
                    "metadata['autoreset_mode'] is SAME_STEP, but environment "
                    f"{slot} ended an episode without infos['final_obs'][{slot}]. With SAME_STEP, "
                    "infos['final_obs'] must have the last observation of an episode, because "
                    f"observations has the first one of the next. {FIX}"
                )
            if _share_memory(last, observations):
                raise ConventionError(
                    f"infos['final_obs'][{slot}] shares its memory with observations, so that it "
                    "is the first observation of the next episode, not the last one of this "
                    f"episode. Give a copy from before the reset. {FIX}"
                )
            final[slot] = self._own(last, slot)
        infos |= {"final_obs": final, "_final_obs": over}
        if "final_info" in infos:
            infos |= self._final_infos(infos, over)
        return infos

    def _final_infos(self, infos: Mapping[str, Any], over: np.ndarray) -> dict[str, Any]:
        given, mask = infos["final_info"], infos.get("_final_info", over)
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            # Before gymnasium 1.0: one dict for each environment, or None.
            dicts, given = given, {}
            join = JoinedInfos(self._num_envs)
            for slot in np.flatnonzero(over).tolist():
                given = join(given, dicts[slot] or {}, slot)
        return {"final_info": given, "_final_info": np.asarray(mask, np.bool_)}

    def _own(self, last: Any, slot: int) -> Any:
        """A copy of a last observation, in the dtypes of its space."""
        own = _cast(self._space, last)
        if not self._fits(own):
            raise ConventionError(
                f"infos['final_obs'][{slot}] is {misfit(last, self._space)}. {FIX}"
            )
        return own


def row_of(batch: Any, slot: int) -> Any:
    """The row of one environment in an array of objects, or in a batch of a struct.

    Example:
        >>> row_of({"x": np.array([1.0, 2.0])}, 1)
        {'x': np.float64(2.0)}
    """
    if isinstance(batch, Mapping):
        return {key: row_of(part, slot) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(row_of(part, slot) for part in batch)
    return batch[slot]


def _cast(space: gym.Space, value: Any) -> Any:
    """A copy of an observation; floats and integers of other sizes get the dtype of the space."""
    if isinstance(space, gym.spaces.Dict) and isinstance(value, Mapping):
        return {key: _cast(part, value[key]) for key, part in space.items() if key in value}
    if isinstance(space, gym.spaces.Tuple) and isinstance(value, tuple):
        return tuple(_cast(part, one) for part, one in zip(space, value, strict=False))
    own = copied(value)
    is_array = isinstance(own, np.ndarray | np.generic)
    if is_array and space.dtype is not None and np.can_cast(own.dtype, space.dtype, "same_kind"):
        return own.astype(space.dtype)
    return own


def _share_memory(last: Any, observations: Any) -> bool:
    leaves = [leaf for leaf in tree.flatten(last) if isinstance(leaf, np.ndarray)]
    batches = [leaf for leaf in tree.flatten(observations) if isinstance(leaf, np.ndarray)]
    return any(
        np.may_share_memory(leaf, batch) and np.shares_memory(leaf, batch)
        for leaf in leaves
        for batch in batches
    )
