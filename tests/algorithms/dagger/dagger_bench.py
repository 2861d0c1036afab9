"""A short DAgger."""

from typing import Any

from rlssl.algorithms.dagger.dagger import DAggerConfig


def small_dagger(**training: Any) -> DAggerConfig:
    """Pendulum with episodes of 40 steps; 4 rounds of one episode, 20 updates apart."""
    settings = {"expert": "expert/pendulum", "rounds": 4, "episodes_per_round": 1}
    settings |= {"updates_per_round": 20, "train_batch_size_per_learner": 16}
    return (
        DAggerConfig()
        .environment("Pendulum-v1", env_config={"max_episode_steps": 40})
        .model(encoder_config={"hidden": [16]}, normalize_observations=True)
        .training(**{**settings, **training})
        .debugging(seed=0)
    )
