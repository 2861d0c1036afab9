"""Pretraining of an encoder on a data set, by auxiliary losses alone."""

from collections.abc import Mapping
from typing import ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns

from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.algorithms.offline.config import OfflineConfig
from rlssl.algorithms.pretrain.presets import PRESETS, VARIANTS
from rlssl.algorithms.pretrain.settings import PretrainSettings
from rlssl.auxiliary.base import MEAN_ACTION, POLICY
from rlssl.clocks import default_period
from rlssl.errors import SpecError


class PretrainConfig(OfflineConfig):
    """Configures pretraining; see `PretrainSettings` for the training settings.

    Example:
        >>> config = PretrainConfig().data(path="demos").auxiliary(inverse_dynamics={})
        >>> config.clock, config.needs_environment
        ('updates', False)
    """

    algorithm_name = "pretrain"
    settings_class = PretrainSettings
    module_class = "rlssl.algorithms.pretrain.pretrain_module:PretrainModule"
    learner_class_name = "rlssl.algorithms.pretrain.pretrain_learner:PretrainTorchLearner"
    has_policy = False
    needs_actions = False
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Pretrain)
        self.set_defaults()

    @property
    def absent_columns(self) -> Mapping[str, str]:
        """Columns that losses may not read: there is no policy, perhaps there are no actions."""
        absent = dict.fromkeys((MEAN_ACTION, POLICY), "pretrain trains no policy; use another loss")
        if self.data_settings is not None and not self._has_actions:
            absent[Columns.ACTIONS] = (
                f"the data set {self.data_settings.path} has no actions; use a loss of "
                "observations alone, or a data set with actions"
            )
        return absent

    @property
    def evaluation_period(self) -> int | None:
        """As in the base class; diagnostics are measured at a tenth of the run, too."""
        given = super().evaluation_period
        if given is None and self.latent_diagnostics and self.total_env_steps:
            return default_period(self.total_env_steps)
        return given

    @property
    def evaluation_episodes(self) -> int:
        """Episodes of the data set whose rows diagnostics use; nothing is played."""
        return int(self.seeded_evaluation["episodes"]) if self.evaluation_period else 0

    @property
    def stored_bonuses(self) -> list[str]:
        """None: nothing acts, so that no reward is used."""
        return []

    @property
    def _has_actions(self) -> bool:
        from rlssl.data import EpisodeDataset

        assert self.data_settings is not None
        return EpisodeDataset(self.data_settings.path).description.action_space is not None

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        if not self.auxiliary_losses:
            raise SpecError(
                "pretrain trains the encoder by auxiliary losses alone, and there are none; name "
                "one or more: --aux inverse_dynamics, or auxiliary: {inverse_dynamics: {}}."
            )
        if self.evaluation_period and not (self.data_holdout or self.latent_diagnostics):
            raise SpecError(
                f"evaluation.every_updates: {self.evaluation_period}: pretrain trains no policy "
                "that could be played, and there is nothing else to measure; set data.holdout "
                "(0.1), name diagnostics, or leave the key out."
            )
        for key in ("video", "env"):
            if self.seeded_evaluation.get(key):
                raise SpecError(
                    f"evaluation.{key}: pretrain trains no policy, which could act in an "
                    "environment; leave the key out. Its evaluations measure losses and "
                    "diagnostics on the data set."
                )


class Pretrain(OffPolicyAlgorithm):
    """Trains an encoder on a data set."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return PretrainConfig()
