"""DDPG with auxiliary losses; settings switch on the changes of TD3 and DrQ-v2."""

from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.ddpg.presets import PRESETS, VARIANTS
from rlssl.algorithms.ddpg.settings import EXPLORATION_STD, DDPGSettings
from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.errors import SpecError
from rlssl.schedules import Schedule, value_at


class DDPGConfig(OffPolicyActorCriticConfig):
    """Configures DDPG; see `DDPGSettings` for the training settings.

    Example:
        >>> import rlssl
        >>> config = rlssl.DDPGConfig()
        >>> config.effective_exploration_std  # Gaussian noise
        0.1
        >>> config.training(exploration="ornstein_uhlenbeck").effective_exploration_std
        1.0

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971; Fujimoto et al. 2018, arXiv:1802.09477; Yarats et
        al. 2021, arXiv:2107.09645.
    """

    algorithm_name = "ddpg"
    settings_class = DDPGSettings
    module_class = "rlssl.algorithms.ddpg.ddpg_module:DDPGModule"
    learner_class_name = "rlssl.algorithms.ddpg.ddpg_learner:DDPGTorchLearner"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or DDPG)

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if not 0 < self.ou_theta * self.ou_dt < 2:
            raise SpecError(
                f"training.ou_theta must be in (0, 2 / ou_dt); got {self.ou_theta} and ou_dt "
                f"{self.ou_dt}."
            )

        low, high = self.target_min, self.target_max
        if low is not None and high is not None and low >= high:
            raise SpecError(f"training.target_min must be < target_max; got {low} and {high}.")

    @property
    def effective_exploration_std(self) -> Schedule:
        """The noise over env steps, from whichever setting gives it."""
        if self.exploration_std is not None:
            return self.exploration_std
        by_agent_steps: Schedule | None = self.exploration_std_by_agent_steps
        if by_agent_steps is None:
            return EXPLORATION_STD[self.exploration]
        if isinstance(by_agent_steps, int | float):
            return by_agent_steps
        repeat = self.action_repeat or 1
        return [[agent_steps * repeat, std] for agent_steps, std in by_agent_steps]

    @property
    def effective_target_noise_std(self) -> Schedule:
        """``target_noise_std``, or the noise of exploration if it is None."""
        given = self.target_noise_std
        return self.effective_exploration_std if given is None else given

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, with the noise, which depends on other settings."""
        derived = {
            "exploration_std": self.effective_exploration_std,
            "target_noise_std": self.effective_target_noise_std,
        }
        return {**super().effective_training(action_space), **derived}

    @property
    def network_settings(self) -> dict[str, Any]:
        """The training settings of the networks; the noise depends on ``exploration``."""
        derived = {"exploration_std": self.effective_exploration_std}
        return {**super().network_settings, **derived}


class DDPG(OffPolicyAlgorithm):
    """DDPG with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return DDPGConfig()

    def extra_results(self) -> dict[str, Any]:
        """Adds the standard deviation of the noise, as at the latest action."""
        std = value_at(self.config.effective_exploration_std, self.latest_action_env_steps)
        return {**super().extra_results(), "exploration_std": std}
