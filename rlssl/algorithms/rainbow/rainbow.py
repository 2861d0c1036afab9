"""Rainbow with auxiliary losses; each part of Rainbow can be switched off."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.algorithms.rainbow.presets import PRESETS, VARIANTS
from rlssl.algorithms.rainbow.settings import RainbowSettings
from rlssl.errors import SpecError
from rlssl.schedules import Schedule, value_at


class RainbowConfig(OffPolicyConfig):
    """Configures Rainbow; see `RainbowSettings` for the training settings.

    Example:
        >>> import rlssl
        >>> config = rlssl.RainbowConfig().training(gamma=0.5, reward_bound=3.0)
        >>> config.support_bounds  # +- reward_bound / (1 - gamma)
        (-6.0, 6.0)

    Source:
        Hessel et al. 2018, arXiv:1710.02298.
    """

    algorithm_name = "rainbow"
    actions = "discrete"
    settings_class = RainbowSettings
    module_class = "rlssl.algorithms.rainbow.rainbow_module:RainbowModule"
    learner_class_name = "rlssl.algorithms.rainbow.rainbow_learner:RainbowTorchLearner"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Rainbow)
        self.num_envs_per_env_runner = 8
        self.set_defaults()

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if max(_values(self.effective_epsilon)) > 1:
            raise SpecError(f"training.epsilon must be <= 1; got {self.epsilon}.")
        if min(_values(self.temperature)) <= 0:
            raise SpecError(f"training.temperature must be > 0; got {self.temperature}.")
        low, high = self.support_bounds
        if not low < high:
            raise SpecError(f"training.v_min must be < v_max; got {low} and {high}.")
        for name, options in self.auxiliary_losses.items():
            if self.auxiliary_in_priorities and options.get("every", 1) != 1:
                raise SpecError(
                    f"auxiliary.{name}.every is {options['every']!r}, and training."
                    "auxiliary_in_priorities adds the loss to all priorities: those of steps "
                    "without the loss would be lower. Leave one of the two out."
                )

    @property
    def effective_epsilon(self) -> Schedule:
        """``epsilon``, or its default if it is None."""
        by_input = self.epsilon_with_noise if self.noisy else self.epsilon_without_noise
        return next(value for value in (self.epsilon, by_input, 0.0) if value is not None)

    @property
    def support_bounds(self) -> tuple[float, float]:
        """``v_min`` and ``v_max``, or their defaults if they are None.

        Raises:
            SpecError: If the defaults are infinite, because gamma is 1.
        """
        if self.gamma >= 1 and (self.v_min is None or self.v_max is None):
            raise SpecError("training.v_min and training.v_max must be set if gamma is 1.")
        low, high = self.v_min, self.v_max
        bound = self.reward_bound / (1 - self.gamma) if self.gamma < 1 else 0.0
        return -bound if low is None else low, bound if high is None else high

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, with the support and epsilon, which depend on other settings."""
        v_min, v_max = self.support_bounds
        derived = {"v_min": v_min, "v_max": v_max, "epsilon": self.effective_epsilon}
        return {**super().effective_training(action_space), **derived}

    @property
    def network_settings(self) -> dict[str, Any]:
        """The training settings of the networks; support and epsilon depend on others."""
        v_min, v_max = self.support_bounds
        derived = {"v_min": v_min, "v_max": v_max, "epsilon": self.effective_epsilon}
        return {**super().network_settings, **derived}


class Rainbow(OffPolicyAlgorithm):
    """Rainbow with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return RainbowConfig()

    def extra_results(self) -> dict[str, Any]:
        """Adds the share of random actions, as at the latest action."""
        epsilon = value_at(self.config.effective_epsilon, self.latest_action_env_steps)
        return {**super().extra_results(), "epsilon": epsilon}


def _values(schedule: Schedule) -> list[float]:
    return [point[1] for point in schedule] if isinstance(schedule, Sequence) else [schedule]
