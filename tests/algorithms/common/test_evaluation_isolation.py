"""Evaluation and training do not disturb each other's random numbers; 0 runners equal 1."""

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
import tree

from rlssl import A3CConfig, PPOConfig, SACConfig
from rlssl.evaluation import evaluate_policy
from rlssl.ray_internals.env_runner import actor_manager
from rlssl.registry import register_env
from rlssl.system.seeding import PROCESS_RESTART

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.usefixtures("own_ray")]


class Noisy(gym.Env):
    """Its observations and rewards come from every global generator and from its spaces."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (4,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, config: Any) -> None:
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        drawn = [random.random(), np.random.randn(), float(torch.rand(()))]
        return np.array([*drawn, self.action_space.sample()[0]], np.float32).clip(-10, 10)

    def step(self, action: Any) -> Any:
        self.t += 1
        observation = self.observe()
        return observation, float(observation.sum() * action[0]), False, self.t == 20, {}


NOISY = "isolation-test/noisy"
register_env(NOISY, Noisy)


def config_of(config_class: Any = PPOConfig, num_env_runners: int = 0) -> Any:
    config = (
        config_class()
        .environment(NOISY)
        .vectorization("sync")
        .env_runners(num_env_runners=num_env_runners, num_envs_per_env_runner=2)
        .debugging(seed=3)
    )
    if config_class is PPOConfig:
        config.training(train_batch_size_per_learner=120, minibatch_size=30, num_epochs=2)
    if config_class is SACConfig:
        config.training(learning_starts_agent_steps=40, agent_steps_per_iteration=60)
    if config_class is A3CConfig:
        config.training(agent_steps_per_iteration=120)
    return config


def outcome(config: Any, iterations: int = 3) -> tuple[list[np.ndarray], list[Any], Any]:
    """The weights and episodes after some iterations, and the last evaluation."""
    algorithm = config.build_algo()
    try:
        results = [algorithm.train() for _ in range(iterations)]
        weights = algorithm.learner_group.get_state()["learner"]["rl_module"]
    finally:
        algorithm.stop()
    episodes = [episode[:3] for result in results for episode in result["episodes"]]
    leaves = [np.asarray(leaf) for leaf in tree.flatten(weights)]
    return leaves, episodes, results[-1].get("evaluation")


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.ci
@pytest.mark.parametrize("config_class", [PPOConfig, SACConfig])
def test_weights_after_three_iterations_are_equal_with_and_without_evaluation(
    config_class: Any,
) -> None:
    weights, episodes, _ = outcome(config_of(config_class))
    every = {"every_env_steps": 50, "episodes": 3, "explore": True}
    own, own_episodes, evaluated = outcome(config_of(config_class).evaluation(**every))
    assert evaluated is not None
    assert_same(own, weights)
    assert own_episodes == episodes
    rllibs = config_of(config_class).evaluation(evaluation_interval=1, evaluation_duration=2)
    assert_same(outcome(rllibs)[0], weights)


def test_remote_evaluation_does_not_disturb_training() -> None:
    weights, _, _ = outcome(config_of())
    config = config_of().evaluation(
        evaluation_interval=1, evaluation_duration=2, evaluation_num_env_runners=1
    )
    assert_same(outcome(config)[0], weights)


@pytest.mark.parametrize("config_class", [PPOConfig, A3CConfig, SACConfig])
def test_episodes_are_the_same_with_0_and_1_remote_runner(config_class: Any) -> None:
    local, episodes, _ = outcome(config_of(config_class, 0))
    remote, remote_episodes, _ = outcome(config_of(config_class, 1))
    assert_same(remote, local)
    assert len(episodes) > 5
    # Returns and lengths; A3C's worker counts its steps from the last report.
    assert sorted(row[1:] for row in remote_episodes) == sorted(row[1:] for row in episodes)


class Still:
    """A policy that always takes the same action."""

    settings: ClassVar[dict[str, Any]] = {}

    def reset(self) -> None:
        """Nothing to reset."""

    def act(self, observation: Any, *, explore: bool = False) -> Any:
        return np.ones(1, np.float32)


def test_evaluation_does_not_depend_on_what_was_drawn_before() -> None:
    def evaluated(seeds: Iterable[int]) -> list[tuple[int, float, int]]:
        policy: Any = Still()
        records = evaluate_policy(policy, {"id": NOISY}, seeds=seeds, explore=True)
        return [(record.seed, record.score, record.length) for record in records]

    first = evaluated(range(10))
    [random.random(), np.random.rand(), torch.rand(()), Noisy.action_space.sample()]
    assert evaluated(range(10)) == first
    # Episode k depends on seed k only, not on the episodes before.
    assert evaluated([9]) == first[9:]


def seeds_of(runner: Any) -> tuple[int, list[int]]:
    return runner.generation, runner.env_seeds


@pytest.mark.parametrize("config_class", [PPOConfig, A3CConfig])
def test_a_restarted_process_begins_new_episodes(config_class: Any) -> None:
    config = config_of(config_class, num_env_runners=2)
    algorithm = config.build_algo()
    group = algorithm.env_runner_group
    try:
        algorithm.train()
        before = group.foreach_env_runner(seeds_of, local_env_runner=False)
        ray.kill(actor_manager(group).actors()[1], no_restart=False)
        begin = time.monotonic()
        after = before
        while len(after) < 2 or after == before:
            assert time.monotonic() - begin < 200, "the runner has not come back"
            algorithm.train()
            after = group.foreach_env_runner(seeds_of, local_env_runner=False)
    finally:
        algorithm.stop()
    seeds = [seed for _, own in [*before, after[0]] for seed in own]
    # Two copies each: of the first runner before and after its restart, and of the second.
    assert len(set(seeds)) == 6
    assert [generation for generation, _ in after] == [PROCESS_RESTART, 0]


def test_restored_algorithms_use_other_seeds_for_new_environments(tmp_path: Path) -> None:
    seeds = []
    first = config_of().build_algo()
    for path in (tmp_path / "first", tmp_path / "second"):
        first.train()
        seeds += first.env_runner.env_seeds
        first.save_to_path(path)
        first.stop()
        first = config_of().build_algo()
        first.restore_from_path(path)
    seeds += first.env_runner.env_seeds
    first.train()
    # The environments were built before the checkpoint was read, and are built again.
    assert first.env_runner._built_generation == first.env_runner.generation
    first.stop()
    assert len(set(seeds)) == 6
