"""A Learner and a runner without Ray's processes."""

from typing import Any

from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rlssl.algorithms.ppo.ppo import PPOConfig


class Bench:
    """One Learner and one EnvRunner of a config."""

    def __init__(self, config: Any) -> None:
        config.validate()
        self.config = config
        self.runner = config.env_runner_cls(config=config, worker_index=0, num_workers=0)
        self.learner: Any = config.build_learner(spaces=self.runner.get_spaces())
        self.learner.build()
        self.env_steps = 0

    @property
    def module(self) -> Any:
        return self.learner.module["default_policy"].unwrapped()

    def sample(self, steps: int = 64) -> list[SingleAgentEpisode]:
        return self.runner.sample(num_timesteps=steps, random_actions=False)

    def batch(self, episodes: list[SingleAgentEpisode]) -> dict[str, Any]:
        """The batch that the Learner's connectors make of episodes."""
        return self.learner.whole_batch(self.learner.run_pipeline(episodes))

    def update(self, episodes: list[SingleAgentEpisode]) -> dict[str, Any]:
        self.env_steps += sum(len(episode) for episode in episodes)
        return self.learner.update(
            episodes=episodes,
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps},
            num_epochs=self.config.num_epochs,
            minibatch_size=self.config.minibatch_size,
        )


def small_ppo(env: Any = "CartPole-v1", **training: Any) -> PPOConfig:
    """PPO with two environments and 64 agent steps an update."""
    settings = {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 2}
    return (
        PPOConfig()
        .environment(env)
        .env_runners(num_envs_per_env_runner=2)
        .model(encoder_config={"hidden": [16]})
        .training(**{**settings, **training})
        .debugging(seed=0)
    )
