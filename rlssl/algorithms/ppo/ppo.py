"""Proximal policy optimization on RLlib's PPO, with auxiliary losses."""

from typing import Any, ClassVar

from ray.rllib.algorithms.ppo import ppo as rllib_ppo
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rlssl.algorithms.common.algorithm import BaseAlgorithm
from rlssl.algorithms.common.config import BaseConfig
from rlssl.algorithms.ppo.presets import PRESETS, VARIANTS
from rlssl.algorithms.ppo.settings import PPOSettings
from rlssl.auxiliary.bonus_options import check_bonuses
from rlssl.auxiliary.building import loss_configs
from rlssl.errors import SpecError
from rlssl.ray_internals.learner import WEIGHTS_TAG


class PPOConfig(BaseConfig, rllib_ppo.PPOConfig):
    """Configures PPO; see `PPOSettings` for the training settings.

    Example:
        >>> import rlssl
        >>> config = rlssl.PPOConfig().environment("CartPole-v1").training(clip_param=0.1)
        >>> config.learners(num_learners=2).total_train_batch_size  # 2 * 1,024 agent steps
        2048

    Source:
        Schulman et al. 2017, arXiv:1707.06347.
    """

    algorithm_name = "ppo"
    may_be_recurrent = True
    settings_class = PPOSettings
    module_class = "rlssl.algorithms.on_policy.module:ActorCriticModule"
    learner_class_name = "rlssl.algorithms.ppo.ppo_learner:PPOTorchLearner"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PPO)
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 8
        # Turns off RLlib's own KL loss and value clamp, which this Learner does not have.
        self.use_kl_loss = False
        self.vf_clip_param = None
        self.set_defaults()

    #: See `check_losses`.
    windows_end_with_fragments = True

    @property
    def rows_of_step(self) -> int:
        """Rows of one gradient step, of all Learners together."""
        return int(self.minibatch_size) * max(1, self.num_learners)

    @property
    def samples_in_rounds(self) -> bool:
        """Whether each EnvRunner samples several fragments for a batch, one after the other."""
        runners = max(1, self.num_env_runners)
        of_all = self.get_rollout_fragment_length() * self.num_envs_per_env_runner * runners
        return not self.overlap_sampling and of_all < self.total_train_batch_size

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        check_bonuses(loss_configs(self), self.algorithm_name, has_replay=False)
        if self.minibatch_size > self.train_batch_size_per_learner:
            raise SpecError(
                f"training.minibatch_size must be <= train_batch_size_per_learner "
                f"({self.train_batch_size_per_learner}); got {self.minibatch_size}."
            )
        if self.overlap_sampling and not self.num_env_runners and not self.in_evaluation:
            raise SpecError(
                "training.overlap_sampling needs remote EnvRunners; set resources.env_runners to "
                "1 or more, or leave overlap_sampling out."
            )
        ignored = {"use_kl_loss": False, "vf_clip_param": None, "use_gae": True, "use_critic": True}
        for key, only in ignored.items():
            if getattr(self, key) != only:
                raise SpecError(
                    f"{key}={getattr(self, key)!r} has no effect here; leave it {only}."
                )


def _begin_batch(env_runner: Any) -> None:
    """Lets an EnvRunner count the steps of a new batch from 0."""
    env_runner.continue_at(None, 0)


class PPO(BaseAlgorithm, rllib_ppo.PPO):
    """RLlib's PPO with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> PPOConfig:
        """The defaults."""
        return PPOConfig()

    def training_step(self) -> None:
        """Samples a batch, updates on it, and sends the weights to the EnvRunners."""
        if not self.config.overlap_sampling:
            if self.config.samples_in_rounds:
                self.env_runner_group.foreach_env_runner(_begin_batch)
            super().training_step()
            return
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            episodes, sampled = self._collect()
        if not episodes:
            return
        self.fragment_requests.send()
        self.metrics.aggregate(sampled, key=ENV_RUNNER_RESULTS)
        so_far = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME))
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            learned = self.learner_group.update(
                episodes=episodes,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: so_far},
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
            )
            self.metrics.aggregate(learned, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            # RLlib sends no weights before the last ones have arrived.
            self.env_runner_group.fetch_ready_async_reqs(tags=[WEIGHTS_TAG], timeout_seconds=None)
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=[DEFAULT_MODULE_ID],
                inference_only=True,
            )

    def _collect(self) -> tuple[list[SingleAgentEpisode], list[Any]]:
        """Waits for fragments, and requests more until they make a batch.

        Returns:
            Chunks of episodes and the metrics of EnvRunners; fewer steps, or none, if no EnvRunner
            is left.
        """
        episodes: list[SingleAgentEpisode] = []
        metrics: list[Any] = []
        num_steps, group = 0, self.env_runner_group
        while num_steps < self.config.total_train_batch_size and group.num_healthy_remote_workers():
            self.fragment_requests.send(offset=num_steps // self.config.num_env_runners)
            for fragment in self.fragment_requests.collect():
                episodes += fragment.episodes
                metrics.append(fragment.metrics)
                num_steps += fragment.agent_steps
        return episodes, metrics
