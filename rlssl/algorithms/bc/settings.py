"""Behavior cloning's training settings: the only place of their defaults."""

import dataclasses

from rlssl.algorithms.common.settings import setting
from rlssl.algorithms.offline.settings import OfflineSettings
from rlssl.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class BCSettings(OfflineSettings):
    """The settings of `rlssl.algorithms.bc`."""

    entropy_coeff: Schedule = setting(
        1e-3, "Weight of the policy's entropy, per nat; >= 0.", can_change=True
    )
    burn_in: int | None = setting(
        None,
        "Rows at the start of a sequence that only warm up the LSTM, unless the episode begins in "
        "the sequence; less than ``model.lstm.sequence_length``. None: half of a sequence.",
        low=0,
    )
