"""SAC swings a cart's pole up from the state; SAC with CURL and DrQ-v2 run from small frames."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.learning.training import final_score

# Each takes minutes; on a busy machine, up to an hour is fine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

#: Smaller agents than the presets', which train in minutes on a CPU.
SMALL_ENCODER = {"num_layers": 2, "num_filters": 16}
SMALL_TRAINING = {
    "critic_hidden": [256, 256],
    "actor_hidden": [256, 256],
    "lr": 5e-4,
    "train_batch_size_per_learner": 64,
    "updates_per_agent_step": 1,
    "random_agent_steps": 500,
    "learning_starts_agent_steps": 500,
    "replay_capacity": 20_000,
}
AGENTS: Mapping[str, Mapping[str, Any]] = {
    "curl": {
        "algorithm": "sac",
        "preset": "curl",
        "model": {"augmentation": {"crop": {"size": 38}}, "encoder_config": SMALL_ENCODER},
        "training": {
            **SMALL_TRAINING,
            "alpha_lr": 5e-4,
            "auxiliary_step": "joint",
            "actor_update_every_updates": 1,
            "target_update_every_updates": 1,
        },
    },
    "drq_v2": {
        "algorithm": "ddpg",
        "preset": "drq_v2",
        "model": {
            "augmentation": {"shift_bilinear": {"pad": 2}},
            "encoder_config": SMALL_ENCODER,
        },
        "training": {
            **SMALL_TRAINING,
            "exploration_std": [[0, 1.0], [20_000, 0.2]],
            "saturation_penalty": 1e-2,
        },
    },
}


# Measured: see docs/results/algorithms.md.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sac_swings_a_pole_up_from_the_state_within_100_000_env_steps(seed: int) -> None:
    document = {"algorithm": "sac", "env": "dmc/cartpole-swingup"}
    assert final_score(document, seed, env_steps=100_000, episodes=10) > 700


# Measured: see docs/results/algorithms.md. Random actions score about 14.
@pytest.mark.parametrize("agent", AGENTS)
def test_cheetah_runs_from_small_frames(agent: str) -> None:
    document = {**AGENTS[agent], "env": {"id": "dmc-pixels/cheetah-run", "size": 42}}
    assert final_score(document, 0, env_steps=60_000, episodes=10) > 100
