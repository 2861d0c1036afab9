"""The base of the configs of all algorithms that train from a data set alone."""

from typing import Any, ClassVar

from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.errors import SpecError


class OfflineConfig(OffPolicyConfig):
    """Configures a run on a data set: no steps of its own, and a clock of updates.

    A subclass sets ``settings_class``, of `OfflineSettings`, ``module_class`` and
    ``learner_class_name``, and calls ``set_defaults()`` in ``__init__``. Its Algorithm is an
    `OffPolicyAlgorithm`, and its Learner an `OffPolicyLearner`. What an algorithm with steps of its
    own needs besides has fixed values here.
    """

    always_offline = True
    #: Whether the Learner sets ``td_errors``, which prioritized draws follow.
    has_td_errors: ClassVar[bool] = False

    # Of the RL loss of a subclass. Losses without returns read single steps.
    n_step = 1
    gamma = 0.99
    # There are no steps of the run's own.
    replay_capacity = 1_000_000
    learning_starts_agent_steps = 0
    updates_per_agent_step = 0.0
    updates_at_start = 0
    overlap_sampling = None

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_envs_per_env_runner = 1

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, without the settings of sampling."""
        used = super().effective_training(action_space)
        return {key: value for key, value in used.items() if key in self.training_arguments()}

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if self.replay_settings.prioritized and not self.has_td_errors:
            raise SpecError(
                f"training.replay.prioritized: true: {self.algorithm_name} has no TD errors, which "
                "priorities are; leave the key out."
            )
