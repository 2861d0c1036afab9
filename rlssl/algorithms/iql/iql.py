"""IQL: offline reinforcement learning without values of actions that are not in the data."""

from typing import ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.common.action_spaces import check_actions, kind_of_any
from rlssl.algorithms.iql.presets import PRESETS, VARIANTS
from rlssl.algorithms.iql.settings import IQLSettings
from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError


class IQLConfig(OffPolicyActorCriticConfig):
    """Configures IQL; see `IQLSettings` for the training settings.

    Example:
        >>> import rlssl
        >>> rlssl.IQLConfig().training(expectile=0.9, inverse_temperature=10.0).expectile
        0.9

    Source:
        Kostrikov et al. 2021, arXiv:2110.06169.
    """

    algorithm_name = "iql"
    actions = "any"
    settings_class = IQLSettings
    module_class = "rlssl.algorithms.iql.iql_module:IQLModule"
    learner_class_name = "rlssl.algorithms.iql.iql_learner:IQLTorchLearner"

    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or IQL)

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """Adapts as every config; a Box of actions needs bounds.

        Raises:
            SpecError: Naming the space and the fix.
        """
        super().adapt_to(spaces)
        if spaces is not None and spaces.action_space is not None:
            check_actions(
                spaces.action_space, self.algorithm_name, kind_of_any(spaces.action_space)
            )

    def _check_data(self) -> None:
        settings = self.data_settings
        if settings is not None and settings.mix is None and not settings.offline:
            raise SpecError(
                "data: say how iql uses the data set: data.offline: true to learn from it alone, "
                "or data.mix, its share of each batch beside the run's own steps (fine-tuning)."
            )
        super()._check_data()

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if not 0 < self.expectile < 1:
            raise SpecError(f"training.expectile must be in (0, 1); got {self.expectile}.")
        bounds = self.log_std_bounds
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise SpecError(f"training.log_std_bounds must be two ascending numbers; got {bounds}.")


class IQL(OffPolicyAlgorithm):
    """IQL with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return IQLConfig()
