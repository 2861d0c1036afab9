"""Injected faults: the effect of each option, and equal faults for equal seeds."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rlssl_envs.faulty import FAULTS, FaultyEnv, InjectedFaultError

from rlssl.environments.building import make_env
from rlssl.environments.env_check import preflight
from rlssl.errors import PreflightError, SpecError


def faulty(**options: Any) -> FaultyEnv:
    return FaultyEnv(gym.make("CartPole-v1"), **options)


def happened(env: gym.Env, fault: str) -> bool:
    """Takes a step, and tells whether it went wrong in the given way."""
    start = time.monotonic()
    try:
        observation, reward, *_ = env.step(0)
    except InjectedFaultError:
        return fault == "crash_in_step"
    return {
        "stall": time.monotonic() - start > 0.05,
        "wrong_shape": observation.shape == (8,),
        "wrong_dtype": observation.dtype == np.float64,
        "nan_observation": bool(np.isnan(observation).all()),
        "nan_reward": bool(np.isnan(float(reward))),
        "huge_reward": reward == 1e30,
    }.get(fault, False)


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"crash_in_reset"}))
def test_each_fault_happens_in_its_call_and_not_before(fault: str) -> None:
    env = faulty(**{fault: 1.0}, after=2, stall_s=0.06)
    env.reset(seed=0)
    assert [happened(env, fault) for _ in range(4)] == [False, False, True, True]
    others = faulty()
    others.reset(seed=0)
    assert not any(happened(others, fault) for _ in range(4))


def test_resets_crash_too() -> None:
    env = faulty(crash_in_reset=1.0, after=1)
    env.reset(seed=0)
    env.step(0)
    env.step(0)
    with pytest.raises(InjectedFaultError, match="crash in reset after 2 steps"):
        env.reset()


def crashes(env: gym.Env, seed: int, steps: int = 200) -> list[int]:
    env.reset(seed=seed)
    return [step for step in range(steps) if happened(env, "crash_in_step")]


def test_faults_have_their_probability_and_repeat_with_their_seeds() -> None:
    first = crashes(faulty(crash_in_step=0.2), seed=3)
    # 40 expected; the standard deviation is 5.7.
    assert 20 < len(first) < 60
    assert crashes(faulty(crash_in_step=0.2), seed=3) == first
    assert crashes(faulty(crash_in_step=0.2), seed=4) != first
    assert crashes(faulty(crash_in_step=0.2, fault_seed=1), seed=3) != first
    # The probability of one fault does not change another fault.
    assert crashes(faulty(crash_in_step=0.2, nan_reward=0.5), seed=3) == first


def test_options_of_the_environment_itself_are_passed_on() -> None:
    env = make_env({"id": "faulty/CartPole-v1", "sutton_barto_reward": True, "nan_reward": 0.0})
    env.reset(seed=0)
    assert env.step(0)[1] == 0.0


@pytest.mark.parametrize(
    "options, words",
    [
        ({"crash_in_step": 1.5}, r"env\.crash_in_step must be in \[0, 1\]; got 1\.5"),
        ({"stall": "often"}, r"env\.stall must be a number; got 'often'"),
        ({"after": -1}, r"env\.after must be a number >= 0; got -1"),
    ],
)
def test_bad_options_name_the_key_and_the_value(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        make_env({"id": "faulty/CartPole-v1", **options})


@pytest.mark.parametrize("name", ["faulty/", "faulty/faulty/CartPole-v1", "faulty/CartPoll-v1"])
def test_the_prefix_needs_the_id_of_an_environment(name: str) -> None:
    with pytest.raises(SpecError, match="CartPole-v1"):
        make_env({"id": name})


@pytest.mark.parametrize(
    "fault, words",
    [
        ("crash_in_step", r"failed in step\(\): InjectedFaultError: injected crash in step 1"),
        ("wrong_shape", "has shape"),
        ("wrong_dtype", "has dtype float64"),
        ("nan_observation", "not finite"),
        ("nan_reward", "the reward must be a finite number; got nan"),
    ],
)
def test_the_preflight_shows_the_fault(fault: str, words: str) -> None:
    env = {"id": "faulty/CartPole-v1", fault: 1.0}
    with pytest.raises(PreflightError, match=words):
        preflight(env)
    preflight({**env, "after": 3})
