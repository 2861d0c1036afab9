"""DDPG on a replay of single frames, with TD3's and DrQ-v2's changes as switches."""

from typing import Any, ClassVar, Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rlssl.algorithms.ddpg.presets import PRESETS, VARIANTS
from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.errors import SpecError
from rlssl.schedules import Schedule, value_at

_WORDS = {
    "exploration": ("gaussian", "ornstein_uhlenbeck"),
    "actor_critics": ("first", "min"),
}
_NETWORK = (
    *("final_bound", "target_actor", "exploration", "exploration_std", "exploration_clip"),
    *("ou_theta", "ou_sigma", "ou_dt"),
)


class DDPGConfig(OffPolicyActorCriticConfig):
    """Configures DDPG; some defaults depend on the observations: ``defaults_by_input``.

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971; Fujimoto et al. 2018, arXiv:1802.09477; Yarats et
        al. 2021, arXiv:2107.09645.
    """

    algorithm_name = "ddpg"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or DDPG)
        self._set_actor_critic_defaults()
        self.num_critics = 1
        self.final_bound: float | None = None
        self.target_actor = True
        self.exploration = "gaussian"
        # None: 0.1, or 1.0 of a walk.
        self.exploration_std: Schedule | None = None
        self.exploration_clip: float | None = None
        self.ou_theta, self.ou_sigma, self.ou_dt = 0.15, 0.2, 1.0
        self.target_noise_std: Schedule | None = 0.0
        self.target_noise_clip = 0.5
        self.actor_noise = False
        self.actor_critics = "first"
        self.saturation_penalty = 0.0
        self._set_rlssl_defaults()

    def training(
        self,
        *,
        final_bound: float | None = NotProvided,
        target_actor: bool = NotProvided,
        exploration: Literal["gaussian", "ornstein_uhlenbeck"] = NotProvided,
        exploration_std: Schedule | None = NotProvided,
        exploration_clip: float | None = NotProvided,
        ou_theta: float = NotProvided,
        ou_sigma: float = NotProvided,
        ou_dt: float = NotProvided,
        target_noise_std: Schedule | None = NotProvided,
        target_noise_clip: float = NotProvided,
        actor_noise: bool = NotProvided,
        actor_critics: Literal["first", "min"] = NotProvided,
        saturation_penalty: float = NotProvided,
        **shared: Any,
    ) -> Self:
        """Sets what the update does; see `OffPolicyActorCriticConfig.training` for the rest.

        Actions are in [-1, 1], and so are the units of noise.

        Args:
            final_bound: The last layers of actor and critics start uniform in +-this; None: as the
                others.
            target_actor: Whether targets are of a slow copy of the actor, or of the actor.
            exploration: ``gaussian`` noise on actions, or an ``ornstein_uhlenbeck`` walk.
            exploration_std: Deviation of the noise over env steps; of a walk: a factor on it; >= 0.
                None: 0.1; of a walk 1.
            exploration_clip: Largest noise; > 0; None: no limit.
            ou_theta: Pull of the walk towards 0 a unit of time; in (0, 2 / ou_dt).
            ou_sigma: Deviation of its steps for a unit of time; >= 0.
            ou_dt: Time between two agent steps; > 0.
            target_noise_std: Deviation of the noise on the target's action over env steps; 0: none;
                None: as ``exploration_std``.
            target_noise_clip: Its largest size; > 0.
            actor_noise: Whether the actor learns by actions with such noise, too.
            actor_critics: Whether it climbs the ``first`` critic, or the ``min`` of all.
            saturation_penalty: Weight, in the actor's loss, of the mean square of actions before
                their tanh, in units of the return; keeps it off the bounds, where it stops
                learning; >= 0.
            **shared: What all actor-critics have.
        """
        self._set_given(locals(), DDPGConfig)
        return super().training(**shared)

    def check_training(self) -> None:
        """Checks ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        self.check_words(_WORDS)
        for key in ("final_bound", "exploration_clip", "target_noise_clip", "ou_dt"):
            self.check_range(key, 0, None, exclusive=True)
        for key in ("ou_sigma", "saturation_penalty"):
            self.check_range(key, 0, None)
        for key in ("exploration_std", "target_noise_std"):
            self.check_schedule_of(key)
        if not 0 < self.ou_theta * self.ou_dt < 2:
            raise SpecError(
                f"training.ou_theta must be in (0, 2 / ou_dt); got {self.ou_theta} and ou_dt "
                f"{self.ou_dt}."
            )

    @property
    def effective_exploration_std(self) -> Schedule:
        """``exploration_std``, or what stands for it where it is None."""
        if self.exploration_std is not None:
            return self.exploration_std
        return 0.1 if self.exploration == "gaussian" else 1.0

    @property
    def effective_target_noise_std(self) -> Schedule:
        """``target_noise_std``, or what stands for it where it is None."""
        own = self.target_noise_std
        return self.effective_exploration_std if own is None else own

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """DDPG's networks with this config's settings."""
        # Imported here, because they need torch, which reading a spec does not.
        from rlssl.algorithms.ddpg.ddpg_module import DDPGModule

        own = {key: getattr(self, key) for key in _NETWORK}
        own["exploration_std"] = self.effective_exploration_std
        return RLModuleSpec(module_class=DDPGModule, model_config={**self.module_settings, **own})

    def get_default_learner_class(self) -> type[Learner]:
        """The Learner."""
        from rlssl.algorithms.ddpg.ddpg_learner import DDPGTorchLearner

        return DDPGTorchLearner


class DDPG(OffPolicyAlgorithm):
    """DDPG with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return DDPGConfig()

    def own_results(self) -> dict[str, Any]:
        """Adds the size of the noise."""
        std = value_at(self.config.effective_exploration_std, self.replay_env_steps)
        return {**super().own_results(), "exploration_std": std}
