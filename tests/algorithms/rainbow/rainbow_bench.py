"""A Learner, a runner and a replay buffer of Rainbow, without Ray's processes."""

from typing import Any

import numpy as np
import torch
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS, draw
from rlssl.algorithms.off_policy.replay_building import make_replay
from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from rlssl.algorithms.rainbow.rainbow_learner import RainbowTorchLearner
from rlssl.batches import to_tensors
from tests.algorithms.bench import Bench

CPU = torch.device("cpu")


class RainbowBench(Bench):
    """As `Bench`, with a replay buffer."""

    learner: RainbowTorchLearner

    def __init__(self, config: RainbowConfig) -> None:
        super().__init__(config)
        spaces = self.runner.get_spaces()[INPUT_ENV_SINGLE_SPACES]
        self.replay = make_replay(config, *spaces)

    def add(self, episodes: list[SingleAgentEpisode]) -> None:
        """Stores chunks, with intrinsic rewards if a loss gives them."""
        intrinsic = None
        if self.config.gives_intrinsic_rewards:
            intrinsic = self.learner.intrinsic_rewards(episodes)
        self.replay.add(episodes, intrinsic)
        self.env_steps += sum(len(episode) for episode in episodes)

    def draw(self, **options: Any) -> dict[str, Any]:
        """A batch as the Algorithm draws it, in numpy."""
        settings = {
            "n_step": self.config.n_step,
            "gamma": self.config.gamma,
            "beta": 0.5,
            "needs": self.learner.needs,
            "uniform_for_auxiliary": self.config.replay_settings.uniform_for_auxiliary,
        }
        size = self.config.total_train_batch_size
        return draw(self.replay, size, **{**settings, **options})

    def batch(self, episodes: list[SingleAgentEpisode]) -> dict[str, Any]:
        """The columns that auxiliary losses read, after storing the episodes."""
        self.add(episodes)
        batch = to_tensors(self.draw(), CPU)
        own = batch.pop(AUXILIARY_COLUMNS, {})
        return {**batch, **own}

    def update(self, episodes: list[SingleAgentEpisode]) -> dict[str, Any]:
        """Stores the episodes and makes two updates."""
        self.add(episodes)
        for _ in range(2):
            self.update_once()
        return self.learner.report()

    def update_once(self) -> np.ndarray:
        """One update on a drawn batch; returns the TD errors, which become priorities."""
        batch = self.draw()
        self.learner.update_on(batch, agent_steps=self.env_steps)
        errors: np.ndarray = self.learner.td_errors.cpu().numpy()
        self.replay.update_priorities(batch["indices"], np.nan_to_num(errors))
        return errors


def small_rainbow(env: Any = "CartPole-v1", **training: Any) -> RainbowConfig:
    """Rainbow with two environments and networks of 16 features."""
    settings = {
        "train_batch_size_per_learner": 32,
        "num_atoms": 51,
        "head_hidden": [16],
        "sigma0": 0.5,
        "epsilon": 0.0,
        "replay_capacity": 2000,
        "learning_starts_agent_steps": 50,
    }
    return (
        RainbowConfig()
        .environment(env)
        .env_runners(num_envs_per_env_runner=2)
        .model(encoder_config={"hidden": [16]})
        .training(**{**settings, **training})
        .debugging(seed=0)
    )
