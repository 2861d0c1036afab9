"""Behavior cloning: supervised learning of a policy from demonstrations with actions."""

from typing import Any, ClassVar

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.bc.metrics import NLL
from rlssl.algorithms.bc.presets import PRESETS, VARIANTS
from rlssl.algorithms.bc.sequences import draw_windows
from rlssl.algorithms.bc.settings import BCSettings
from rlssl.algorithms.off_policy.algorithm import OffPolicyAlgorithm
from rlssl.algorithms.offline.config import OfflineConfig
from rlssl.errors import SpecError
from rlssl.networks.recurrent import LSTMConfig
from rlssl.replay import ReplayBuffer

#: Steps of held-out episodes that are measured for a result; with an LSTM, of all sequences.
MAX_HELD_OUT_STEPS = 1_000


class BCConfig(OfflineConfig):
    """Configures behavior cloning; see `BCSettings` for the training settings.

    Example:
        >>> config = BCConfig().data(path="demos", holdout=0.1).training(entropy_coeff=0.0)
        >>> config.clock
        'updates'

    Source:
        Pomerleau 1991, Efficient training of artificial neural networks for autonomous navigation.
    """

    algorithm_name = "bc"
    may_be_recurrent = True
    has_held_out_loss = True
    settings_class = BCSettings
    module_class = "rlssl.algorithms.bc.bc_module:BCModule"
    learner_class_name = "rlssl.algorithms.bc.bc_learner:BCTorchLearner"
    presets: ClassVar = PRESETS
    variants: ClassVar = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or BC)
        self.set_defaults()

    @property
    def lstm(self) -> LSTMConfig | None:
        """``model.lstm``."""
        return LSTMConfig.parse(self.network["lstm"])

    @property
    def used_burn_in(self) -> int:
        """``training.burn_in``, with its default: half of a sequence."""
        if self.lstm is None:
            return 0
        return self.lstm.sequence_length // 2 if self.burn_in is None else int(self.burn_in)

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, with the rows that warm up an LSTM."""
        return {**super().effective_training(action_space), "burn_in": self.used_burn_in}

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if self.burn_in is not None and self.lstm is None:
            raise SpecError(
                f"training.burn_in: {self.burn_in} warms up an LSTM, and there is none; set "
                "model.lstm, or leave the key out."
            )
        if self.lstm is not None and self.used_burn_in >= self.lstm.sequence_length:
            raise SpecError(
                f"training.burn_in must be < model.lstm.sequence_length "
                f"({self.lstm.sequence_length}); got {self.used_burn_in}."
            )

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        if self.lstm is not None and self.auxiliary_losses and self.num_learners > 1:
            raise SpecError(
                f"resources.learners: {self.num_learners} cannot share the separate rows that "
                "auxiliary losses get beside an LSTM's sequences; set it to 1, or leave model.lstm "
                "or the losses out."
            )


class BC(OffPolicyAlgorithm):
    """Behavior cloning with rlssl's metrics at the top level of every result."""

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The defaults."""
        return BCConfig()

    def _held_out_losses(self, replay: ReplayBuffer) -> dict[str, Any]:
        """Means of the Learner's measures over held-out steps, and those of auxiliary losses.

        The steps are always the same, at most 1,000, evenly spread over the episodes.
        """
        lstm = self.config.lstm
        indices = replay.drawable_indices()
        length = 1 if lstm is None else lstm.sequence_length
        count = min(len(indices), MAX_HELD_OUT_STEPS // length or 1)
        chosen = indices[np.linspace(0, len(indices) - 1, count).astype(int)]
        batch = replay.windows(chosen, before=length - 1) if lstm else replay.gather(chosen)
        sums = dict(self._on_learners(_measure, batch=batch)[0][1])
        num_rows = sums.pop("rows")
        found: dict[str, Any] = {name: value / num_rows for name, value in sums.items()}
        if not self.config.auxiliary_losses:
            return {"loss": found[NLL], **found}
        auxiliary = super()._held_out_losses(replay)
        return {**auxiliary, **found, "loss": found[NLL] + auxiliary["loss"]}

    def _draw(self) -> Any:
        """As the base; for a policy with an LSTM, windows of steps."""
        lstm = self.config.lstm
        if lstm is None:
            return super()._draw()
        batch = draw_windows(
            self.replay,
            self.config.total_train_batch_size,
            length=lstm.sequence_length,
            needs=self._needs,
        )
        return self._prepare(batch), []


def _measure(learner: Any, batch: Any) -> tuple[int, dict[str, float]]:
    return learner.peers.rank, learner.measure(batch)
