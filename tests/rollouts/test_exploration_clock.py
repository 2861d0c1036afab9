"""Schedules of exploration follow the agent steps of the run, also between two results."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rlssl.rollouts.stock_env_runner import StockEnvRunner
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small_ddpg
from tests.algorithms.rainbow.rainbow_bench import small_rainbow

FRAGMENT = 4


def runner_of(config: Any, num_envs: int = 1, **kwargs: Any) -> Any:
    config.env_runners(num_envs_per_env_runner=num_envs).validate()
    return config.env_runner_cls(config=config, worker_index=0, num_workers=0, **kwargs)


def watched(runner: Any) -> list[int]:
    """A list that gets the clock of every exploring action."""
    clocks: list[int] = []
    note = runner.module.note_action

    def note_and_keep(t: int) -> None:
        clocks.append(t)
        note(t)

    runner.module.note_action = note_and_keep
    return clocks


def sample(runner: Any, steps: int, fragment: int = FRAGMENT) -> list[Any]:
    """Fragments without a result between them."""
    chunks = []
    for _ in range(steps // fragment):
        chunks += runner.sample(num_timesteps=fragment, random_actions=False)
    return chunks


def test_random_first_steps_end_within_an_iteration() -> None:
    config = small_ddpg(random_agent_steps=100, exploration_std=0.0)
    runner = runner_of(config)
    with torch.no_grad():
        for parameter in runner.module.actor.parameters():
            parameter.zero_()
    actions = np.concatenate([chunk.get_actions() for chunk in sample(runner, 1_000)])
    # The policy's actions are 0; the first 100 of 1,000 are random: a share of 0.9.
    assert len(actions) == 1_000
    assert (actions == 0).mean() == 0.9
    assert (actions[:100] != 0).all()


def test_epsilon_falls_within_an_iteration() -> None:
    config = small_rainbow(noisy=False, epsilon=[[0, 1.0], [1_000, 0.0]])
    runner = runner_of(config)
    with torch.no_grad():
        for parameter in runner.module.head.parameters():
            parameter.zero_()
    actions = np.concatenate([chunk.get_actions() for chunk in sample(runner, 2_000)])
    # The values do not depend on the observation, so one action is the best. Half of the random
    # actions are the other one: a mean epsilon of 0.5 over 1,000 of 2,000 steps gives
    # 2,000 * 0.25 * 0.5 = 250 of them. The standard deviation is at most
    # sqrt(2,000 * 0.125 * 0.875) = 15.
    best = actions[-1]
    assert (actions != best).sum() == pytest.approx(250, abs=45)
    assert (actions[1_000:] == best).all()


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("fragment", [2, 4, 7, 100])
def test_clock_counts_every_agent_step(num_envs: int, fragment: int) -> None:
    runner = runner_of(small_rainbow(noisy=False), num_envs)
    clocks = watched(runner)
    counted = 0
    for _ in range(3):
        chunks = runner.sample(num_timesteps=fragment, random_actions=False)
        first = clocks.pop(0)
        # The first action of a fragment comes after all the steps of the earlier fragments.
        assert first == counted
        if num_envs == 1 and len(chunks) == 1:
            assert clocks == list(range(counted + 1, counted + fragment))
        counted += sum(len(chunk) for chunk in chunks)
        clocks.clear()
    assert runner.num_env_steps_sampled_lifetime == counted


def test_clock_counts_the_half_that_is_stepping() -> None:
    config = small_rainbow(noisy=False).environment("CartPole-v1")
    config.vectorize = "async"
    runner = runner_of(config, num_envs=4)
    try:
        clocks = watched(runner)
        runner.sample(num_timesteps=16, random_actions=False)
        halves = len(runner._env_batches)
    finally:
        runner.stop()
    assert halves == 2
    # Each half has 2 environments; no episode of CartPole ends within 4 steps.
    assert clocks == [0, 2, 4, 6, 8, 10, 12, 14]


def test_stock_runner_has_the_same_clock() -> None:
    config = small_rainbow(noisy=False).env_runners(num_envs_per_env_runner=1)
    config.validate()
    runner: Any = StockEnvRunner(config=config, worker_index=0, num_workers=0)
    clocks = watched(runner)
    sample(runner, 20)
    # An autoreset also needs an action: its clock is that of the next step.
    assert sorted(set(clocks)) == list(range(20))
    assert runner.num_env_steps_sampled_lifetime == 20


def test_runner_counts_the_share_of_the_others_until_the_exact_number_arrives() -> None:
    config = small_rainbow(noisy=False)
    config.num_env_runners = 3
    config.validate()
    runner = config.env_runner_cls(config=config, worker_index=1, num_workers=3)
    clocks = watched(runner)
    runner.sample(num_timesteps=8, random_actions=False)
    # 2 environments of 3 runners give 6 agent steps at once.
    assert clocks == [0, 6, 12, 18]
    runner.set_state({NUM_ENV_STEPS_SAMPLED_LIFETIME: 23})
    clocks.clear()
    runner.sample(num_timesteps=4, random_actions=False)
    assert clocks == [23, 29]
    assert runner.get_state()[NUM_ENV_STEPS_SAMPLED_LIFETIME] == 23 + 4 * 3


def test_evaluation_does_not_move_the_clock() -> None:
    config = small_rainbow(noisy=False)
    config.in_evaluation = True
    runner = runner_of(config)
    runner.set_state({NUM_ENV_STEPS_SAMPLED_LIFETIME: 50})
    clocks = watched(runner)
    runner.sample(num_timesteps=8, explore=True, random_actions=False)
    assert set(clocks) == {50}
    assert runner.num_env_steps_sampled_lifetime == 50
