"""Proximal policy optimisation on RLlib's PPO, with auxiliary losses."""

from typing import Any, ClassVar, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import ppo as rllib_ppo
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
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
from rlssl.algorithms.on_policy.overlapped_sampling import OverlappedSampling
from rlssl.errors import SpecError
from rlssl.schedules import Schedule

#: The surrogate's forms: clipped, penalised by an adaptive KL coefficient, or both.
VARIANTS = ("clip", "adaptive_kl", "both")


class PPOConfig(BaseConfig, rllib_ppo.PPOConfig):
    """Configures PPO; some defaults depend on the observations: ``defaults_by_input``.

    Source:
        Schulman et al. 2017, arXiv:1707.06347.
    """

    algorithm_name = "ppo"
    may_be_recurrent = True
    variants: ClassVar = {name: {"training": {"variant": name}} for name in VARIANTS}
    # Frames: as on Atari in the published baselines; few passes, because each costs seconds.
    defaults_by_input: ClassVar = {
        "vectors": {
            "lr": 1e-3,
            "minibatch_size": 128,
            "num_epochs": 10,
            "clip_param": 0.2,
            "entropy_coeff": 0.0,
        },
        "frames": {
            "lr": 2.5e-4,
            "minibatch_size": 256,
            "num_epochs": 4,
            "clip_param": 0.1,
            "entropy_coeff": 0.01,
        },
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PPO)
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 8
        self._train_batch_size_per_learner = 1024
        self.adam_epsilon = 1e-5
        self.gamma = 0.99
        self.lambda_ = 0.95
        self.variant = "clip"
        self.kl_coeff = 1.0
        self.kl_target = 0.01
        self.vf_loss_coeff = 0.5
        self.normalize_advantages = True
        self.grad_clip = 0.5
        self.overlap_sampling = False
        # RLlib's own KL loss and value clamp; the Learner here has neither.
        self.use_kl_loss = False
        self.vf_clip_param = None
        self._set_rlssl_defaults()

    def training(
        self,
        *,
        variant: str = NotProvided,
        lr: Schedule = NotProvided,
        adam_epsilon: float = NotProvided,
        gamma: float = NotProvided,
        lambda_: float = NotProvided,
        train_batch_size_per_learner: int = NotProvided,
        minibatch_size: int = NotProvided,
        num_epochs: int = NotProvided,
        clip_param: float = NotProvided,
        kl_coeff: float = NotProvided,
        kl_target: float = NotProvided,
        vf_loss_coeff: float = NotProvided,
        entropy_coeff: Schedule = NotProvided,
        normalize_advantages: bool = NotProvided,
        grad_clip: float | None = NotProvided,
        overlap_sampling: bool = NotProvided,
        **rllib: Any,
    ) -> Self:
        """Sets what the update does. Schedules are a number or [[env_steps, value], ...].

        Args:
            variant: ``clip`` (the paper's eq. 7), ``adaptive_kl`` (eq. 8) or ``both``.
            lr: Learning rate of Adam; > 0.
            adam_epsilon: Adam's epsilon; > 0; 1e-5 as in the published baselines.
            gamma: Discount per agent step; in [0, 1].
            lambda_: GAE's lambda; in [0, 1].
            train_batch_size_per_learner: Agent steps between updates, over all environments.
            minibatch_size: Agent steps per gradient step; divides the batch, or the last one of
                an epoch is completed from the next.
            num_epochs: Passes over the batch.
            clip_param: Largest rewarded change of the probability ratio; > 0.
            kl_coeff: First coefficient of the KL penalty.
            kl_target: KL per update that the coefficient seeks, nats.
            vf_loss_coeff: Weight of ``0.5 (V - R)^2``.
            entropy_coeff: Weight of the entropy bonus, per nat.
            normalize_advantages: Zero mean and unit deviation over each batch.
            grad_clip: Largest global gradient norm; None: no clipping.
            overlap_sampling: Whether remote EnvRunners sample the next batch during the update.
                They then use the weights of one update before, which the surrogate corrects for
                as it does for later epochs; ``diff_num_grad_updates_vs_sampler_policy`` says so.
            **rllib: What RLlib itself passes when it copies a config.
        """
        given = {key: value for key, value in locals().items() if value is not NotProvided}
        for key in self.training_arguments().keys() & given.keys():
            name = "_train_batch_size_per_learner" if key.startswith("train_batch") else key
            setattr(self, name, given[key])
        return super().training(**rllib)

    def check_training(self) -> None:
        """Checks ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        if self.variant not in VARIANTS:
            raise SpecError(f"training.variant must be one of {VARIANTS}; got {self.variant!r}.")
        for key, low, high in (("gamma", 0, 1), ("lambda_", 0, 1), ("vf_loss_coeff", 0, None)):
            self.check_range(key, low, high)
        for key in ("adam_epsilon", "clip_param", "kl_coeff", "kl_target", "minibatch_size"):
            self.check_range(key, 0, None, exclusive=True)
        for key in ("num_epochs", "_train_batch_size_per_learner", "grad_clip"):
            self.check_range(key, 0, None, exclusive=True)
        if self.minibatch_size > self.train_batch_size_per_learner:
            raise SpecError(
                f"training.minibatch_size must be <= train_batch_size_per_learner "
                f"({self.train_batch_size_per_learner}); got {self.minibatch_size}."
            )
        if self.overlap_sampling and not self.num_env_runners and not self.in_evaluation:
            raise SpecError(
                "training.overlap_sampling needs remote EnvRunners; set resources.env_runners to "
                "1 or more, or leave it out."
            )
        ignored = {"use_kl_loss": False, "vf_clip_param": None, "use_gae": True, "use_critic": True}
        for key, only in ignored.items():
            if getattr(self, key) != only:
                raise SpecError(
                    f"{key}={getattr(self, key)!r} has no effect here; leave it {only}."
                )
        for key in ("lr", "entropy_coeff"):
            self.check_schedule_of(key)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """PPO's networks with this config's settings."""
        # Imported here, because they need torch, which reading a spec does not.
        from rlssl.algorithms.on_policy.module import ActorCriticModule

        settings = {**self.module_settings, "kl_coeff": self.kl_coeff}
        return RLModuleSpec(module_class=ActorCriticModule, model_config=settings)

    def get_default_learner_class(self) -> type[Learner]:
        """The Learner."""
        from rlssl.algorithms.ppo.ppo_learner import PPOTorchLearner

        return PPOTorchLearner


class PPO(BaseAlgorithm, rllib_ppo.PPO):
    """RLlib's PPO with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> PPOConfig:
        """The defaults."""
        return PPOConfig()

    def setup(self, config: Any) -> None:
        """Builds the Algorithm."""
        super().setup(config)
        self._overlapped = OverlappedSampling(self.env_runner_group)

    def training_step(self) -> None:
        """Samples a batch, updates on it, and sends the weights to the EnvRunners."""
        if not self.config.overlap_sampling:
            super().training_step()
            return
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            episodes, sampled = self._overlapped.collect(self.config.total_train_batch_size)
        if not episodes:
            return
        self._overlapped.begin()
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
            self._overlapped.see_weights_taken()
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=[DEFAULT_MODULE_ID],
                inference_only=True,
            )
