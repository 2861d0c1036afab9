"""Diagnostics of every algorithm, at its evaluations."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import tree

from rlssl.diagnostics.report import _random_encoder, _trained_module
from rlssl.diagnostics.settings import OPTIONS
from rlssl.registry import register_env
from tests.algorithms.a3c.a3c_bench import small_a3c
from tests.algorithms.bench import small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small_ddpg, small_sac
from tests.algorithms.rainbow.rainbow_bench import small_rainbow

#: Algorithm -> a small config on CartPole or Pendulum.
CONFIGS: dict[str, Callable[[], Any]] = {
    "a3c": small_a3c,
    "ppo": small_ppo,
    "rainbow": small_rainbow,
    "sac": lambda: small_sac("Pendulum-v1"),
    "ddpg": lambda: small_ddpg("Pendulum-v1"),
}


class Told(gym.Env):
    """The reward of a step is the first number of the observation, whatever the action."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: Any) -> None:
        self.t = 0
        self.now = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        self.now = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.now

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = float(self.now[0])
        return self.observe(), reward, False, self.t == 100, {}


register_env("diagnostics-test/told", Told)


def built(config: Any, names: Any = tuple(OPTIONS), episodes: int = 3) -> Any:
    config = config.evaluation(every_env_steps=1, episodes=episodes)
    if names:
        config = config.diagnostics(list(names))
    return config.build_algo()


def learned(algorithm: Any) -> Any:
    states = algorithm.learner_group.get_state(components="learner/rl_module")
    return states["learner"]["rl_module"]["default_policy"]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_algorithm_reports_all_diagnostics_and_learns_the_same(name: str) -> None:
    ends = []
    for names in (tuple(OPTIONS), ()):
        algorithm = built(CONFIGS[name](), names)
        try:
            results = [algorithm.train() for _ in range(2)]
            ends.append((learned(algorithm), results[-1]))
        finally:
            algorithm.stop()
    (measured, result), (plain, without) = ends
    assert "diagnostics" not in without
    tree.map_structure(np.testing.assert_array_equal, measured, plain)
    assert result["evaluation"] == pytest.approx(without["evaluation"], nan_ok=True)
    found = result["diagnostics"]
    assert found["env_steps"] == result["evaluation"]["env_steps"]
    assert 0 < found["num_rows"] <= 1000 and found["seconds"] > 0
    most = min(found["num_rows"], found["num_features"]) + 1e-6
    assert all(1 <= value <= most for value in found["ranks"].values())
    assert all(0 <= value <= 1 for value in found["dormant"].values())
    assert "layer_1" in found["dormant"]
    for probe in ("reward_probe", "action_probe"):
        scores = [found[probe][f"f1{end}"] for end in ("", "_majority", "_random_encoder")]
        assert all(math.isnan(f1) or 0 <= f1 <= 1 for f1 in scores)
    if "Pendulum" in CONFIGS[name]().env:
        assert not math.isnan(found["reward_probe"]["f1"])


def test_latents_that_hold_the_reward_are_recognized() -> None:
    algorithm = built(small_ppo("diagnostics-test/told"), episodes=10)
    try:
        found = algorithm.train()["diagnostics"]
    finally:
        algorithm.stop()
    assert found["num_rows"] == 1000
    assert found["reward_probe"]["accuracy"] > 0.95
    assert found["reward_probe"]["accuracy_majority"] < 0.6


def test_the_latents_are_those_of_the_learners_encoder() -> None:
    algorithm = built(small_sac("Pendulum-v1"), ["ranks"])
    try:
        algorithm.train()
        before = algorithm.evaluate_seeded() and dict(algorithm._last_diagnostics)
        module = algorithm.learner_group._learner.rl_module
        with torch.no_grad():
            for parameter in module.encoder.parameters():
                parameter.zero_()
        algorithm.evaluate_seeded()
        after = algorithm._last_diagnostics
    finally:
        algorithm.stop()
    assert before["ranks"]["effective_rank"] > 1.01
    assert after["ranks"] == {"srank": 1.0, "stable_rank": 1.0, "effective_rank": 1.0}


def test_a_restored_run_still_has_the_last_diagnostics(tmp_path: Any) -> None:
    first = built(small_ppo(), ["ranks"])
    second = built(small_ppo(), ["ranks"])
    try:
        found = first.train()["diagnostics"]
        first.save_to_path(tmp_path)
        second.restore_from_path(tmp_path)
        assert second.standing()["diagnostics"] == found
    finally:
        first.stop()
        second.stop()


def test_the_random_encoder_has_the_statistics_of_the_observations() -> None:
    algorithm = built(small_ppo().model(normalize_observations=True), ["action_probe"])
    try:
        algorithm.train()
        trained = _trained_module(algorithm)
        random_encoder: Any = _random_encoder(algorithm, trained)
    finally:
        algorithm.stop()
    normalizer = random_encoder.normalizer
    assert normalizer.count > 0 and torch.equal(normalizer.mean, trained.normalizer.mean)
    first = next(random_encoder.parameters())
    assert not torch.equal(first, next(trained.encoder.parameters()))
