"""The base of the modules of all algorithms with a replay buffer."""

from typing import Any

import tree
from ray.rllib.core.columns import Columns

from rlssl.algorithms.common.module import BaseModule
from rlssl.auxiliary.building import build_losses, build_views
from rlssl.networks.augmentation import Augmentation
from rlssl.networks.encoders import Encoder
from rlssl.schedules import value_at


class OffPolicyModule(BaseModule):
    """Builds augmentations and auxiliary losses, and evaluates schedules for acting.

    Settings (``model_config``): those of ``.model()``; action_repeat.
    """

    # No default here: a class attribute would hide what nn.Module registers.
    next_augmentation: Augmentation | None

    #: Agent steps of the run before the latest exploring action; None: none was taken.
    latest_action_at: int | None = None

    def build_views_and_losses(
        self, key_encoder: Encoder | None = None, rl_projection: Encoder | None = None
    ) -> None:
        """Builds the augmentations and the auxiliary losses, which only the Learner needs.

        Args:
            key_encoder: The algorithm's target encoder, if it has one.
            rl_projection: First layers of the head; see ``AuxiliaryLoss``.
        """
        self.augmentation = build_views(self, "augmentation")
        self.next_augmentation = build_views(self, "next_augmentation")
        self.auxiliary = build_losses(self, key_encoder, rl_projection)

    def note_action(self, t: int | None) -> None:
        """Remembers the clock of an exploring action, for the metrics; see `latest_action_at`."""
        if t is not None:
            self.latest_action_at = t

    def scheduled(self, key: str, t: int | None) -> float:
        """The value of a setting after ``t`` agent steps; None: the schedule's last value."""
        schedule = self.model_config[key]
        if isinstance(schedule, int | float):
            return float(schedule)
        if t is None:
            return float(schedule[-1][1])
        return value_at(schedule, t * self.model_config["action_repeat"])


def acting_observations(batch: dict[str, Any]) -> Any:
    """[N, ...], leaf by leaf; for a policy with a state, drops the time axis of length 1."""
    obs = batch[Columns.OBS]
    if Columns.STATE_IN not in batch:
        return obs
    return tree.map_structure(lambda leaf: leaf[:, 0], obs)
