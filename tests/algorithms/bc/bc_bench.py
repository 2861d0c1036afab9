"""Behavior cloning without Ray's processes: a Learner and the replay buffers of a data set."""

from pathlib import Path
from typing import Any

import gymnasium as gym
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES

from rlssl.algorithms.bc.bc import BCConfig
from rlssl.algorithms.off_policy.replays import Replays
from rlssl.data import DatasetWriter, Description
from tests.algorithms.bench import Bench
from tests.data.recorded import random_episode


def random_data(
    folder: Path,
    observation_space: gym.Space,
    action_space: gym.Space | None,
    lengths: tuple[int, ...] = (12, 1, 20, 7),
) -> Path:
    """A data set of random episodes."""
    with DatasetWriter(folder, Description(observation_space, action_space)) as writer:
        for seed, length in enumerate(lengths):
            writer.add(random_episode(observation_space, action_space, length, seed=seed))
    return folder


def small_bc(
    data: Path, *, model: Any = None, holdout: float | None = None, **training: Any
) -> Any:
    """Behavior cloning with networks of 16 features and batches of 16 rows."""
    options = {"encoder_config": {"hidden": [16]}} if model is None else model
    return (
        BCConfig()
        .data(path=str(data), holdout=holdout)
        .model(**options)
        .training(**{"train_batch_size_per_learner": 16, **training})
        .debugging(seed=0)
    )


class BCBench(Bench):
    """As `Bench`, with the replay buffers of the config's data set."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.replays = Replays(config, *self.runner.get_spaces()[INPUT_ENV_SINGLE_SPACES])

    def draw(self) -> dict[str, Any]:
        """A batch as the Algorithm draws it, in numpy; for a module without an LSTM."""
        return self.replays.draw(beta=0.0, needs=self.learner.needs)[0]
