"""The rewards and terminations of an environment with goals, for any goals.

Such an environment has the methods of gymnasium-robotics' ``GoalEnv``: ``compute_reward`` and,
optionally, ``compute_terminated``.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.environments.building import make_env
from rlssl.environments.rewards.options import LEARNING_OPTIONS
from rlssl.environments.rewards.wrappers import LEARNING_REWARD
from rlssl.errors import SpecError
from rlssl.system.random_state import undisturbed_generators

#: Keys of an observation.
OBSERVATION, ACHIEVED, DESIRED = "observation", "achieved_goal", "desired_goal"

#: Random steps with which the functions are tried.
_NUM_STEPS = 24

_WAY_OUT = "Leave training.relabel out, or choose another environment (docs/goals.md)."

#: (achieved goals [N, ...], desired goals [N, ...]) -> [N].
RowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


class GoalFunctions:
    """Computes rewards and terminations of rows with any goals, by an environment's own methods.

    The methods are tried on random steps: their rewards must be those of ``step``. A method that
    does not take rows, but only single goals, is called for each row.

    Args:
        env: An environment, which is reset and stepped. It must stay open.

    Raises:
        SpecError: The environment has no goals, or its methods cannot be used. The message says
            what to do.

    Example:
        >>> functions = goal_functions({"id": "goals/bit-flipping", "num_bits": 2})
        >>> states, goals = np.float32([[0, 1], [1, 1]]), np.float32([[0, 1], [0, 1]])
        >>> functions.rewards(states, goals)
        array([ 0., -1.], dtype=float32)
        >>> functions.terminations(states, goals)
        array([ True, False])
    """

    def __init__(self, env: gym.Env) -> None:
        self._env, self._name = env, str(getattr(env.spec, "id", None) or env.unwrapped)
        check_goal_space(env.observation_space, self._name)
        reward = self._method("compute_reward")
        if reward is None:
            raise SpecError(
                f"training.relabel needs an environment with compute_reward(achieved_goal, "
                f"desired_goal, info), and {self._name} has none. {_WAY_OUT}"
            )
        self._tried = _Tried(env)
        self._check_rewards(reward)
        self._rewards = self._of_rows("compute_reward", reward)
        terminated = self._method("compute_terminated")
        self._terminated: RowFunction | None = None
        if terminated is not None and self._is_written(terminated):
            self._terminated = self._of_rows("compute_terminated", terminated)

    @property
    def tells_terminations(self) -> bool:
        """Whether the environment has ``compute_terminated``."""
        return self._terminated is not None

    def rewards(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """[N] float32, the rewards of steps that lead to ``achieved`` [N, ...].

        Args:
            achieved: The goals that the next observations achieve.
            desired: [N, ...], the goals of these steps.
        """
        return np.asarray(self._rewards(achieved, desired), np.float32)

    def terminations(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """[N] bool, whether such steps end their episodes; see `tells_terminations`."""
        assert self._terminated is not None
        return np.asarray(self._terminated(achieved, desired), np.bool_)

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def _method(self, name: str) -> Callable[..., Any] | None:
        """A method of the environment or of one of its wrappers."""
        if not self._env.has_wrapper_attr(name):
            return None
        method: Callable[..., Any] = self._env.get_wrapper_attr(name)
        return method

    def _is_written(self, terminated: Callable[..., Any]) -> bool:
        """Whether ``compute_terminated`` is more than that of the abstract class."""
        try:
            terminated(self._tried.achieved[0], self._tried.desired[0], {})
        except NotImplementedError:
            return False
        return True

    def _check_rewards(self, function: Callable[..., Any]) -> None:
        tried = self._tried
        for achieved, desired, reward in zip(
            tried.achieved, tried.desired, tried.rewards, strict=True
        ):
            with self._explained("compute_reward"):
                found = float(function(achieved, desired, {}))
            if not np.isclose(found, reward, rtol=1e-5, atol=1e-6):
                raise SpecError(
                    f"training.relabel: a step of {self._name} paid {reward:g}, but its "
                    f"compute_reward says {found:g}: rewards of other goals would not fit those "
                    "that were sampled. A wrapper may change rewards, or repeat actions: remove "
                    f"it, or change compute_reward likewise. {_WAY_OUT}"
                )

    def _of_rows(self, name: str, function: Callable[..., Any]) -> RowFunction:
        """``function`` of rows: itself if it takes rows, else a call for each row."""

        def one_by_one(achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
            pairs = zip(achieved, desired, strict=True)
            return np.array([function(*pair, {}) for pair in pairs]).reshape(len(achieved))

        def together(achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
            found: np.ndarray = function(achieved, desired, {})
            return found

        achieved, desired = self._tried.pairs()
        with self._explained(name):
            expected = one_by_one(achieved, desired)
        try:
            found = np.asarray(together(achieved, desired))
        except Exception:
            # Whatever it raises for rows: it takes single goals.
            return one_by_one
        takes_rows = found.shape == expected.shape and np.allclose(found, expected)
        return together if takes_rows else one_by_one

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise SpecError(
                f"training.relabel: {name} of {self._name} failed for the goal of a step and empty "
                f"infos: {type(error).__name__}: {error}. Replay buffers have no infos. {_WAY_OUT}"
            ) from error


class _Tried:
    """Goals and rewards of random steps.

    Attributes:
        achieved: [N, ...], the achieved goals after each step.
        desired: [N, ...], the goals of each step.
        rewards: [N], to learn from.
    """

    def __init__(self, env: gym.Env) -> None:
        env.action_space.seed(0)
        before, _ = env.reset(seed=0)
        steps = []
        for _ in range(_NUM_STEPS):
            after, reward, terminated, truncated, info = env.step(env.action_space.sample())
            reward = info.get(LEARNING_REWARD, reward)
            steps.append((np.copy(after[ACHIEVED]), np.copy(before[DESIRED]), float(reward)))
            before = env.reset()[0] if terminated or truncated else after
        achieved, desired, rewards = zip(*steps, strict=True)
        self.achieved, self.desired = np.stack(achieved), np.stack(desired)
        self.rewards = np.array(rewards)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """[2 N, ...] each: the steps with their goals, and with goals that were achieved."""
        reached = np.roll(self.achieved, 1, axis=0)
        reached[::2] = self.achieved[::2]
        return (
            np.concatenate([self.achieved, self.achieved]),
            np.concatenate([self.desired, reached]),
        )


@undisturbed_generators()
def goal_functions(env: Mapping[str, Any]) -> GoalFunctions:
    """Builds one environment in this process, for its rewards; see `GoalFunctions`.

    Args:
        env: ``{"id": ..., **options}``.

    Raises:
        SpecError: See `GoalFunctions`; the environment is closed. Or an option changes the reward
            to learn from, which ``compute_reward`` does not know.
    """
    if given := [f"env.{key}" for key in LEARNING_OPTIONS if env.get(key) is not None]:
        raise SpecError(
            f"training.relabel computes rewards of other goals with the environment's "
            f"compute_reward, and {' and '.join(given)} changes the reward of sampled steps only: "
            "leave one of them out."
        )
    instance = make_env(env, seed=0)
    try:
        return GoalFunctions(instance)
    except SpecError:
        instance.close()
        raise


def check_goal_space(space: gym.Space, name: str) -> None:
    """Raises a SpecError unless observations have goals.

    Args:
        space: The space of one observation.
        name: The environment's, for the message.
    """
    parts = space.spaces if isinstance(space, gym.spaces.Dict) else {}
    missing = [key for key in (OBSERVATION, ACHIEVED, DESIRED) if key not in parts]
    if missing:
        raise SpecError(
            f"training.relabel needs observations with the keys {OBSERVATION}, {ACHIEVED} and "
            f"{DESIRED}; those of {name} lack {', '.join(missing)}. {_WAY_OUT}"
        )
    achieved, desired = parts[ACHIEVED], parts[DESIRED]
    same = achieved.shape == desired.shape and achieved.dtype == desired.dtype
    if achieved.shape is None or not same:
        raise SpecError(
            f"training.relabel puts achieved goals in the place of desired goals; those of {name} "
            f"are {achieved} and {desired}, which differ. {_WAY_OUT}"
        )
