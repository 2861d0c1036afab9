"""Training settings that all algorithms share that train from a data set alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlssl.algorithms.common.settings import ByInput, TrainingSettings, setting
from rlssl.algorithms.off_policy import settings as shared
from rlssl.schedules import Schedule

LR = "Learning rate of Adam; > 0. A schedule's points are [updates, value]."


@dataclasses.dataclass(frozen=True)
class OfflineSettings(TrainingSettings):
    """The optimizer, the batch, and how batches are drawn."""

    lr: Schedule = setting(ByInput(1e-3, 3e-4), LR, can_change=True)
    adam_epsilon: float = setting(1e-8, shared.ADAM_EPSILON, above=0, can_change=True)
    train_batch_size_per_learner: int = setting(256, shared.BATCH_SIZE, above=0, can_change=True)
    grad_clip: float | None = setting(None, shared.GRAD_CLIP, above=0, can_change=True)
    replay: Mapping[str, Any] = setting({"prioritized": False}, shared.REPLAY)
