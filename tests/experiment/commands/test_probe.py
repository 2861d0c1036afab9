"""The probe: states that latents can and cannot predict, and the command line."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from click.testing import CliRunner

from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.experiment.commands.probe import linear_r2, probe, with_state_in_info
from rlssl.policy import Policy
from rlssl.registry import register_env
from tests.algorithms.bench import small_ppo

NOISY = {"id": "CartPole-v1", "distractors": {"dims": 6}}


def policy_on(env: Any) -> Policy:
    """An untrained policy."""
    algorithm = small_ppo(env).build_algo()
    try:
        return Policy.from_algorithm(algorithm)
    finally:
        algorithm.stop()


def test_linear_states_are_predicted_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2000, 5))
    states = np.stack(
        [latents @ np.arange(5.0) + 3.0, rng.normal(size=2000), np.full(2000, 7.0)], axis=1
    )
    r2 = linear_r2(latents[:1000], states[:1000], latents[1000:], states[1000:])
    # The ridge penalty lowers every coefficient by about 1e-3 of its value: r2 of 1 - 1e-6.
    assert r2[0] == pytest.approx(1.0, abs=1e-4)
    assert abs(r2[1]) < 0.05 and np.isnan(r2[2])


def test_constant_latents_predict_nothing() -> None:
    states = np.random.default_rng(0).normal(size=(100, 1))
    zeros = np.zeros((50, 3))
    assert abs(linear_r2(zeros, states[:50], zeros, states[50:])[0]) < 0.2


@pytest.mark.parametrize("env, source", [({"id": "CartPole-v1"}, "observation"), (NOISY, "info")])
def test_report_of_a_policy(env: dict[str, Any], source: str) -> None:
    report = probe(policy_on(env), env, seeds=range(6), explore=True, max_steps=200)
    assert report["state"] == source and len(report["r2"]) == 4
    # A random layer of 16 features keeps most of the 4 numbers, less if 6 noise numbers are added.
    assert 0.3 < report["r2_mean"] <= 1.0
    assert -1.0 <= report["rank_correlation"] <= 1.0
    assert report["effective_rank"] > 1.0 and report["distance"] > 0.0
    again = probe(policy_on(env), env, seeds=range(6), explore=True, max_steps=200)
    assert again == report


def test_noise_makes_latents_less_like_the_state() -> None:
    clean, noisy = (
        probe(policy_on(env), env, seeds=range(6), explore=True, max_steps=200)
        for env in ({"id": "CartPole-v1"}, NOISY)
    )
    assert noisy["rank_correlation"] < clean["rank_correlation"]


def test_options_that_give_the_state_are_added_if_the_environment_has_them() -> None:
    assert with_state_in_info({"id": "dmc-pixels/cheetah-run"})["info_state"] is True
    assert with_state_in_info(NOISY)["distractors"] == {"dims": 6, "info_state": True}
    assert with_state_in_info({"id": "CartPole-v1"}) == {"id": "CartPole-v1"}


class _Grid(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (2, 7, 7), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros((2, 7, 7), np.uint8), {}

    def step(self, action: Any) -> Any:
        return np.zeros((2, 7, 7), np.uint8), 0.0, True, False, {}


register_env("test_probe/grid", lambda config: _Grid())


class _Walk(gym.Env):
    """A float64 state, moved by random steps: in place, or as a new array in each step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, in_place: bool, in_info: bool) -> None:
        self.in_place, self.in_info = in_place, in_info
        self.state = np.zeros(3)

    def _results(self) -> Any:
        return self.state, {"state": self.state} if self.in_info else {}

    def _move(self, change: np.ndarray) -> None:
        if self.in_place:
            self.state += change
        else:
            self.state = self.state + change

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._move(self.np_random.normal(size=3) * 0.3 - self.state)
        return self._results()

    def step(self, action: Any) -> Any:
        self._move(self.np_random.normal(size=3) * 0.3 - self.state / 2)
        observation, info = self._results()
        return observation, 0.0, False, False, info


register_env("test_probe/walk", lambda config: _Walk(config["in_place"], config["in_info"]))


@pytest.mark.parametrize("in_info", [False, True])
def test_states_that_an_environment_changes_in_place_are_copied(in_info: bool) -> None:
    walks = [{"id": "test_probe/walk", "in_place": i, "in_info": in_info} for i in (True, False)]
    policy = policy_on(walks[1])
    in_place, copied = (
        probe(policy, env, seeds=range(6), explore=False, max_steps=100) for env in walks
    )
    assert in_place == copied
    # Random features of a state keep it. Without a copy, all states of an episode are its last one.
    assert in_place["r2_mean"] > 0.9


def test_probe_without_a_state_names_what_is_missing() -> None:
    env = {"id": "test_probe/grid"}
    algorithm = small_ppo(env).model(encoder_config={}).build_algo()
    policy = Policy.from_algorithm(algorithm)
    algorithm.stop()
    with pytest.raises(SpecError, match=r"the environment gives no info\['state'\]"):
        probe(policy, env, seeds=range(2), explore=False, max_steps=5)
    with pytest.raises(SpecError, match="give --episodes 2 or more"):
        probe(policy, env, seeds=[0], explore=False, max_steps=5)


def test_command_line_reports_the_probe(tmp_path: Path) -> None:
    folder = policy_on(NOISY).save(tmp_path / "policy")
    arguments = ["evaluate", str(folder), "--episodes", "4", "--probe"]
    plain = CliRunner().invoke(main, arguments)
    assert plain.exit_code == 0, plain.output
    assert "probe: state (from info) R2 " in plain.output
    as_json = CliRunner().invoke(main, [*arguments, "--json"])
    (report,) = json.loads(as_json.stdout)
    assert set(report["probe"]) >= {"r2", "rank_correlation", "effective_rank"}
