"""Checks of observations and rewards while sampling."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.environments.observation_checks import CheckedEnv, misfit, observation_check
from rlssl.rollouts.batch_checks import BatchCheck

VECTOR = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
FRAME = gym.spaces.Box(0, 255, (3, 4, 4), np.uint8)


@pytest.mark.parametrize(
    "space, good, bad",
    [
        (VECTOR, np.zeros(2, np.float32), np.zeros(2)),
        (VECTOR, np.zeros(2, np.float32), np.zeros((2, 1), np.float32)),
        (VECTOR, np.zeros(2, np.float32), [0.0, 0.0]),
        (FRAME, np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.float32)),
        (gym.spaces.Box(-1, 1, (), np.float32), np.float32(0.5), 0.5),
        (gym.spaces.Discrete(3), 2, 3),
        (gym.spaces.Dict(a=FRAME), {"a": np.zeros((3, 4, 4), np.uint8)}, {}),
        (gym.spaces.Dict(a=VECTOR), {"a": np.zeros(2, np.float32)}, {"a": np.zeros(2)}),
        (gym.spaces.Tuple([VECTOR]), (np.zeros(2, np.float32),), (None,)),
    ],
)
def test_observations_must_have_the_structure_of_their_space(
    space: gym.Space, good: Any, bad: Any
) -> None:
    assert observation_check(space)(good)
    assert not observation_check(space)(bad)
    assert str(space) in str(misfit(bad, space))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_slot_of_a_nonfinite_number_is_found(value: float) -> None:
    check = BatchCheck(gym.spaces.Dict(frame=FRAME, inner=gym.spaces.Tuple([VECTOR])))
    batch: dict[str, Any] = {
        "frame": np.zeros((3, 3, 4, 4), np.uint8),
        "inner": (np.zeros((3, 2), np.float32),),
    }
    rewards = np.zeros(3)
    assert check.is_healthy(batch, rewards)
    batch["inner"][0][1, 1] = value
    rewards[2] = value
    assert not check.is_healthy(batch, np.zeros(3))
    assert not check.is_healthy({**batch, "inner": (np.zeros((3, 2), np.float32),)}, rewards)
    assert {slot: type(e).__name__ for slot, e in check.errors(batch, rewards).items()} == {
        1: "BadObservationError",
        2: "BadRewardError",
    }


@pytest.mark.parametrize("reward, is_fine", [(1e19, True), (-1e19, True), (1.1e20, False)])
def test_finite_rewards_have_a_maximum(reward: float, is_fine: bool) -> None:
    check = BatchCheck(VECTOR)
    observations, rewards = np.zeros((2, 2), np.float32), np.array([0.0, reward])
    assert check.is_healthy(observations, rewards) is is_fine
    assert (check.errors(observations, rewards) == {}) is is_fine


def test_observations_whose_squares_overflow_are_no_fault() -> None:
    check = BatchCheck(VECTOR)
    observations = np.full((2, 2), 1e30, np.float32)
    assert check.errors(observations, np.zeros(2)) == {}


def test_environments_in_other_processes_check_themselves() -> None:
    class Wrong(gym.Env):
        observation_space, action_space = VECTOR, gym.spaces.Discrete(2)

        def reset(self, **kwargs: Any) -> Any:
            return np.zeros(2, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(2), 0.0, False, False, {}

    env = CheckedEnv(Wrong())
    env.reset()
    with pytest.raises(ValueError, match="dtype float64, which does not fit Box"):
        env.step(0)
