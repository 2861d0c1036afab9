"""Experts: policies that are written, not trained."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlssl
from rlssl.environments import make_env, make_expert
from rlssl.environments.experts import CheckedExpert
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins
from rlssl.registry import EXPERTS, local_registrations, register_expert, restore_registrations


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    """Undoes the registrations of a test, but not those of the plug-ins."""
    load_plugins()
    with EXPERTS.undone_afterwards():
        yield


def _returns(
    name: str, env: gym.Env, seeds: range, noise: float = 0.0
) -> tuple[list[float], list[bool]]:
    """Plays an episode for each seed: returns, and whether the last step was a success."""
    expert, rng = make_expert(name, env), np.random.default_rng(0)
    returns, successes = [], []
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        expert.reset(observation)
        action, total, ended = None, 0.0, False
        while not ended:
            action = expert.act(observation, action)
            assert env.action_space.contains(action)
            if rng.random() < noise:
                action = env.action_space.sample()
            observation, reward, terminated, truncated, info = env.step(action)
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
        successes.append(bool(info.get("success")))
    return returns, successes


def test_cartpole_is_balanced_to_the_end_of_every_episode() -> None:
    returns, _ = _returns("expert/cartpole", make_env({"id": "CartPole-v1"}), range(3))
    assert returns == [500.0] * 3


def test_pendulum_is_swung_up() -> None:
    """A random policy has about -1,200; the return depends on the start, -1 to -380."""
    returns, _ = _returns("expert/pendulum", make_env({"id": "Pendulum-v1"}), range(10))
    assert np.mean(returns) > -200
    assert min(returns) > -400


def _torque(angle: float, speed: float) -> float:
    env = make_env({"id": "Pendulum-v1"})
    env.reset(seed=0)
    env.unwrapped.state = np.array([angle, speed])  # type: ignore[attr-defined]
    return float(make_expert("expert/pendulum", env).act(None, None)[0])


def test_torques_of_the_pendulum_by_hand() -> None:
    # Near the top: -(12 * 0.1 + 3 * -0.2) = -0.6, also a full turn away.
    assert _torque(0.1, -0.2) == pytest.approx(-0.6)
    assert _torque(0.1 + 2 * math.pi, -0.2) == pytest.approx(-0.6, abs=1e-6)
    # At pi / 2 with speed 0.3: energy 0.09 / 6 + 0 - 5 = -4.985; -3 * -4.985 * 0.3 = 4.49, cut.
    assert _torque(math.pi / 2, 0.3) == 2.0
    # With speed 6: energy 6 + 0 - 5 = 1; -3 * 1 * 6 = -18, cut.
    assert _torque(math.pi / 2, 6.0) == -2.0
    # With speed 5.5: energy 30.25 / 6 - 5 = 0.0416667; -3 * 0.0416667 * 5.5 = -0.6875.
    assert _torque(math.pi / 2, 5.5) == pytest.approx(-0.6875, abs=1e-6)
    assert _torque(math.pi, 0.0) == 2.0


@pytest.mark.parametrize("observation", ["grid", "pixels"])
def test_the_bot_of_babyai_solves_levels_whatever_is_observed(observation: str) -> None:
    env = make_env({"id": "BabyAI-PickupLoc-v0", "observation": observation})
    _, successes = _returns("expert/babyai-bot", env, range(5))
    assert successes == [True] * 5


def test_the_bot_goes_on_when_another_policy_acts_in_between() -> None:
    env = make_env({"id": "BabyAI-UnlockLocal-v0"})
    _, successes = _returns("expert/babyai-bot", env, range(5), noise=0.3)
    assert successes == [True] * 5


def test_the_bot_is_told_which_action_was_taken() -> None:
    """Another policy turns away where the bot would pick up: the bot turns back and picks up."""
    env = make_env({"id": "BabyAI-PickupLoc-v0"})
    observation, _ = env.reset(seed=0)
    expert = make_expert("expert/babyai-bot", env)
    expert.reset(observation)
    left, right, pick_up = 0, 1, 3
    action = expert.act(observation, None)
    while action != pick_up:
        observation, *_ = env.step(action)
        action = expert.act(observation, action)
    env.step(left)
    assert expert.act(observation, left) == right
    env.step(right)
    assert expert.act(observation, right) == pick_up


@pytest.mark.parametrize(
    ("name", "env_id", "words"),
    [
        ("babyai-bot", "MiniGrid-Empty-5x5-v0", "mission of a BabyAI level, and MiniGrid-Empty"),
        ("babyai-bot", "CartPole-v1", "take a BabyAI-... environment"),
        ("cartpole", "Pendulum-v1", "expert/cartpole is for CartPole-v1"),
        ("pendulum", "CartPole-v1", "expert/pendulum is for Pendulum-v1"),
    ],
)
def test_an_expert_refuses_environments_of_others(name: str, env_id: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        make_expert(f"expert/{name}", make_env({"id": env_id}))


def test_rescaled_actions_are_not_pendulums() -> None:
    low, high = np.float32(-1.0), np.float32(1.0)
    env: gym.Env = gym.wrappers.RescaleAction(make_env({"id": "Pendulum-v1"}), low, high)
    with pytest.raises(SpecError, match="with its own actions"):
        make_expert("expert/pendulum", env)


def test_a_level_that_the_bot_cannot_solve_is_named() -> None:
    env = make_env({"id": "BabyAI-KeyInBox-v0"})
    with pytest.raises(SpecError, match="cannot solve KeyInBox"):
        _returns("expert/babyai-bot", env, range(1))


def test_unknown_experts_are_refused_with_a_suggestion() -> None:
    env = make_env({"id": "CartPole-v1"})
    with pytest.raises(UnknownNameError, match="did you mean 'expert/cartpole'"):
        make_expert("expert/cartpol", env)


def test_experts_of_a_user_are_listed_carried_to_other_processes_and_checked() -> None:
    @rlssl.register_expert("lab-still")
    class Still:
        """Never moves."""

        def __init__(self, env: gym.Env) -> None:
            self.env = env

        def reset(self, observation: Any) -> None: ...

    listed = {row["name"]: row["note"] for row in rlssl.list_names("experts")}
    assert listed["expert/lab-still"] == "Never moves."
    assert {"expert/babyai-bot", "expert/cartpole", "expert/pendulum"} <= set(listed)
    assert local_registrations()["experts"]["lab-still"] is Still
    with EXPERTS.undone_afterwards():
        restore_registrations({"experts": {"lab-carried": Still}})
        assert EXPERTS["lab-carried"] is Still
    with pytest.raises(SpecError, match=r"expert/lab-still has no method act\(\)"):
        make_expert("expert/lab-still", make_env({"id": "CartPole-v1"}))


def test_names_with_a_meaning_elsewhere_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expert name 'a\.b'"):
        register_expert("a.b", object)


class Answers:
    """Gives the same action at every step."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def reset(self, observation: Any) -> None: ...

    def act(self, observation: Any, previous_action: Any) -> Any:
        return self.action


def test_wider_numbers_become_those_of_the_action_space() -> None:
    space = gym.spaces.Dict(
        wheel=gym.spaces.Box(-2, 2, (1,)),
        rest=gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Box(0, 9, (), np.int64)]),
    )
    given = {"wheel": np.array([0.1]), "rest": (1, np.array(3, np.int32))}  # float64, int32
    action = CheckedExpert("expert/lab", Answers(given), space).act(None, None)
    assert action["wheel"].dtype == np.float32 and action["wheel"] == np.float32(0.1)
    assert action["rest"][1].dtype == np.int64 and action["rest"] == (1, 3)


@pytest.mark.parametrize("action", [np.array([2.5]), np.array([0.0, 0.0]), np.array(["up"]), None])
def test_actions_that_do_not_fit_are_refused(action: Any) -> None:
    expert = CheckedExpert("expert/lab", Answers(action), gym.spaces.Box(-2, 2, (1,)))
    with pytest.raises(SpecError, match=r"expert/lab gave the action .*, which is not in Box"):
        expert.act(None, None)
