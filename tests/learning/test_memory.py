"""A cue remembered for ten steps: with an LSTM it is, without one it cannot be."""

from typing import Any

import pytest

import rlssl
from rlssl.policy import Policy, evaluate_policy, summarize

# Half a minute each on a quiet core: a quarter of an hour on a busy machine is no failure.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Four cues: without a memory, one choice in four is right.
CHANCE = 0.25


def success_after(config: Any, env_steps: int, *, every: int | None = None) -> float:
    """The share of 200 greedy evaluation episodes in which the cue is named.

    Args:
        config: Of the agent.
        env_steps: When it is looked at; with ``every``, at the latest.
        every: Env steps between looks; the first at which 95 % are named ends the run.
    """
    algorithm = config.build_algo()
    env = config.evaluation_env_settings
    every = every or env_steps
    success = 0.0
    try:
        for goal in range(every, env_steps + 1, every):
            while algorithm.train()["env_steps"] < goal:
                pass
            records = evaluate_policy(
                Policy.from_algorithm(algorithm), env, seeds=range(200), explore=False
            )
            success = summarize(records)["success_rate"]
            if success >= 0.95:
                break
    finally:
        algorithm.stop()
    return success


def ppo(seed: int, lstm: dict[str, int] | None) -> rlssl.PPOConfig:
    return (
        rlssl.PPOConfig()
        .environment("memory/cue")
        .model(encoder_config={"hidden": [64]}, lstm=lstm)
        .debugging(seed=seed)
    )


def a3c(seed: int, lstm: dict[str, int] | None) -> rlssl.A3CConfig:
    """A3C in process; settings from seeds 100 to 102."""
    return (
        rlssl.A3CConfig()
        .environment("memory/cue")
        .model(encoder_config={"hidden": [64]}, lstm=lstm, shared_encoder=True)
        .training(optimizer="adam", lr=3e-3, entropy_coeff=0.03, lambda_=0.95)
        .env_runners(num_envs_per_env_runner=8)
        .debugging(seed=seed)
    )


# Measured: see docs/recurrent.md.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_with_an_lstm_remembers_the_cue(seed: int) -> None:
    assert success_after(ppo(seed, {"hidden": 64}), 40_000) >= 0.95


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_without_a_memory_stays_at_chance(seed: int) -> None:
    # Four deviations of 200 fair draws: 4 * sqrt(0.25 * 0.75 / 200) = 0.12.
    assert abs(success_after(ppo(seed, None), 40_000) - CHANCE) < 0.13


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_a3c_with_an_lstm_comes_to_remember_the_cue(seed: int) -> None:
    assert success_after(a3c(seed, {"hidden": 64}), 300_000, every=20_000) >= 0.95


@pytest.mark.parametrize("seed", [10, 11, 12])
def test_a3c_without_a_memory_stays_at_chance(seed: int) -> None:
    assert abs(success_after(a3c(seed, None), 120_000) - CHANCE) < 0.13
