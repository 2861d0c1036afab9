"""The rewards of environments with goals, for any goals; which environments are refused."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TransformReward

import rlssl
from rlssl.environments.goals import GoalFunctions, goal_functions
from rlssl.errors import SpecError
from tests.replay.hindsight.goal_episodes import SPACE, Numbers


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


ACHIEVED, DESIRED = rows(0, 1, 2, 2), rows(0, 2, 2, 0)
REWARDS, ENDED = [0.0, -1.0, 0.0, -2.0], [True, False, True, False]


class SingleGoals(Numbers):
    """Its methods take single goals, and give wrong results or errors for rows."""

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -float(np.linalg.norm(achieved - desired))

    def compute_terminated(self, achieved: Any, desired: Any, info: Any) -> Any:
        return not (np.any(achieved != desired) or achieved.item() < 0)


@pytest.mark.parametrize("env", [Numbers(), SingleGoals()])
def test_methods_are_called_with_rows_or_row_by_row(env: gym.Env) -> None:
    functions = GoalFunctions(env)
    assert functions.rewards(ACHIEVED, DESIRED).tolist() == REWARDS
    assert functions.terminations(ACHIEVED, DESIRED).tolist() == ENDED
    assert functions.rewards(ACHIEVED[:1], DESIRED[:1]).tolist() == REWARDS[:1]
    assert functions.rewards(ACHIEVED, DESIRED).dtype == np.float32


def test_methods_of_wrapped_environments_are_found() -> None:
    functions = GoalFunctions(gym.wrappers.TimeLimit(Numbers(terminates=False), 5))
    assert functions.rewards(ACHIEVED, DESIRED).tolist() == REWARDS
    assert functions.terminations(ACHIEVED, DESIRED).tolist() == [False] * 4


class Abstract(Numbers):
    """As an environment that does not write an abstract method of ``GoalEnv``."""

    def compute_terminated(self, achieved: Any, desired: Any, info: Any) -> Any:
        raise NotImplementedError

    def step(self, action: Any) -> Any:
        self.state = int(action)
        seen = self._observation()
        reward = self.compute_reward(seen["achieved_goal"], seen["desired_goal"], {})
        return seen, float(reward), False, False, {}


def test_compute_terminated_is_optional() -> None:
    assert not GoalFunctions(Abstract()).tells_terminations
    assert GoalFunctions(Numbers()).tells_terminations


def test_suites() -> None:
    pytest.importorskip("gymnasium_robotics", reason="needs rlssl[robotics]")
    reach = goal_functions({"id": "robotics/FetchReach-v4"})
    goals = np.array([[0.0, 0, 0], [0, 0, 0.06], [0, 0.04, 0]])
    assert reach.rewards(goals, goals * 0).tolist() == [0.0, -1.0, 0.0]
    assert reach.terminations(goals, goals * 0).tolist() == [False] * 3
    reach.close()
    # Its compute_terminated takes the norm of all rows together.
    maze = goal_functions({"id": "robotics/PointMaze_UMaze-v3", "continuing_task": False})
    places = np.array([[0.0, 0.4], [0.0, 0.5]])
    assert maze.rewards(places, places * 0).tolist() == [1.0, 0.0]
    assert maze.terminations(places, places * 0).tolist() == [True, False]


def test_building_does_not_disturb_the_programs_generators() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    goal_functions({"id": "goals/bit-flipping"}).close()
    assert np.random.random() == expected


class NeedsInfo(Numbers):
    def step(self, action: Any) -> Any:
        self.state = int(action)
        return self._observation(), -1.0, False, False, {"mass": 2.0}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -info["mass"] / 2


class WithoutReward(gym.Wrapper):
    def has_wrapper_attr(self, name: str) -> bool:
        return name != "compute_reward" and super().has_wrapper_attr(name)


class OneGoal(gym.ObservationWrapper):
    def __init__(self, env: gym.Env, key: str) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, gym.spaces.Dict)
        parts = {it: part for it, part in env.observation_space.items() if it != key}
        self.key, self.observation_space = key, gym.spaces.Dict(parts)

    def observation(self, observation: Any) -> Any:
        return {it: part for it, part in observation.items() if it != self.key}


class Wide(Numbers):
    def __init__(self) -> None:
        super().__init__()
        wide = gym.spaces.Box(0, 1, (2,))
        self.observation_space = gym.spaces.Dict({**SPACE.spaces, "desired_goal": wide})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gym.make("CartPole-v1"), "lack observation, achieved_goal, desired_goal"),
        (lambda: OneGoal(Numbers(), "achieved_goal"), "lack achieved_goal"),
        (lambda: WithoutReward(Numbers()), r"needs an environment with compute_reward\("),
        (
            lambda: TransformReward(Numbers(), lambda r: float(r) / 10),
            "but its compute_reward says",
        ),
        (lambda: NeedsInfo(), "empty infos: KeyError: 'mass'"),
        (lambda: Wide(), "which differ"),
    ],
)
def test_environments_without_goals_are_refused(make: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message) as refusal:
        GoalFunctions(make())
    assert "Leave training.relabel out" in str(refusal.value)


class Scaled(gym.Wrapper):
    """The reward to learn from is not that of the environment."""

    def step(self, action: Any) -> Any:
        seen, reward, ended, truncated, info = self.env.step(action)
        return seen, reward, ended, truncated, {**info, "learning_reward": float(reward) / 10}


def test_rewards_to_learn_from_must_be_those_of_compute_reward() -> None:
    with pytest.raises(SpecError, match="but its compute_reward says"):
        GoalFunctions(Scaled(Numbers()))
    for option in ({"reward": "none"}, {"shaping": "builtins:len"}):
        with pytest.raises(SpecError, match=rf"env\.{next(iter(option))} changes the reward"):
            goal_functions({"id": "goals/bit-flipping", **option})


def test_an_option_that_changes_rewards_is_respected() -> None:
    rlssl.register_env("test/numbers", lambda config: Numbers(terminates=config["terminates"]))
    endless = goal_functions({"id": "test/numbers", "terminates": False})
    assert endless.terminations(ACHIEVED, DESIRED).tolist() == [False] * 4
