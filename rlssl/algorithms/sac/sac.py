"""SAC from vectors and from pixels, with auxiliary losses."""

from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.algorithms.sac.presets import PRESETS, VARIANTS
from rlssl.algorithms.sac.settings import SACSettings
from rlssl.errors import SpecError


class SACConfig(OffPolicyActorCriticConfig):
    """Configures SAC; see `SACSettings` for the training settings.

    Example:
        >>> import rlssl
        >>> config = rlssl.SACConfig().training(replay={"prioritized": True, "alpha": 0.6})
        >>> config = config.experiment(total_env_steps=50_000)
        >>> config.replay_settings.alpha, config.beta_anneal_env_steps
        (0.6, 50000)

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905.
    """

    algorithm_name = "sac"
    settings_class = SACSettings
    module_class = "rlssl.algorithms.sac.sac_module:SACModule"
    learner_class_name = "rlssl.algorithms.sac.sac_learner:SACTorchLearner"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or SAC)

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, with the temperature's learning rate and target."""
        used = super().effective_training(action_space)
        if used["alpha_lr"] is None:
            used["alpha_lr"] = used["lr"]
        if used["target_entropy"] is None and action_space is not None:
            used["target_entropy"] = default_target_entropy(action_space.shape[0])
        return used

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if not 0 <= self.alpha_beta1 < 1:
            raise SpecError(f"training.alpha_beta1 must be in [0, 1); got {self.alpha_beta1}.")
        bounds = self.log_std_bounds
        if bounds is not None and (len(bounds) != 2 or not bounds[0] < bounds[1]):
            raise SpecError(f"training.log_std_bounds must be two ascending numbers; got {bounds}.")


def default_target_entropy(action_dim: int) -> float:
    """Minus the number of action dimensions, nats.

    Example:
        >>> default_target_entropy(6)
        -6.0
    """
    return -float(action_dim)


class SAC(OffPolicyAlgorithm):
    """SAC with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return SACConfig()
