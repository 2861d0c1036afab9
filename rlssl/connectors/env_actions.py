"""Maps the policy's actions to the action space in RLlib's stock EnvRunner."""

import copy
import functools
from collections.abc import Callable
from typing import Any

from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.module_to_env import (
    NormalizeAndClipActions as RLlibNormalizeAndClipActions,
)
from ray.rllib.core.columns import Columns

from rlssl.networks.action_encoding import to_env_actions
from rlssl.ray_internals.connectors import build_connectors_quickly

# Every process that builds connectors has imported this module, for `with_clipped_actions`.
build_connectors_quickly()


class NormalizeAndClipActions(RLlibNormalizeAndClipActions):
    """RLlib's connector with the mapping of ``to_env_actions``.

    RLlib's own connector does not clip actions of a Box that has an element without a bound. The
    name of the class is RLlib's, because checkpoints name connectors by their class.
    """

    def __call__(self, *, batch: dict[str, Any] | None, **kwargs: Any) -> Any:
        """Adds the column ACTIONS_FOR_ENV; see RLlib's class."""
        if batch is not None and (self.normalize_actions or self.clip_actions):
            batch[Columns.ACTIONS_FOR_ENV] = copy.deepcopy(batch[Columns.ACTIONS])
            self.foreach_batch_item_change_in_place(
                batch=batch,
                column=Columns.ACTIONS_FOR_ENV,
                func=lambda action, *_: self._to_env(action),
            )
        return batch

    @functools.cached_property
    def _to_env(self) -> Callable[[Any], Any]:
        return to_env_actions(
            self.input_action_space, normalize=self.normalize_actions, clip=self.clip_actions
        )


def with_clipped_actions(pipeline: ConnectorV2) -> ConnectorV2:
    """The same pipeline, with our `NormalizeAndClipActions` in the place of RLlib's.

    Example:
        >>> import rlssl
        >>> pipeline = rlssl.PPOConfig().environment("Pendulum-v1").build_module_to_env_connector()
        >>> [type(piece).__module__ for piece in pipeline.connectors if "Clip" in str(type(piece))]
        ['rlssl.connectors.env_actions']
    """
    for index, piece in enumerate(getattr(pipeline, "connectors", ())):
        if type(piece) is RLlibNormalizeAndClipActions:
            pipeline.connectors[index] = NormalizeAndClipActions(
                piece.input_observation_space,
                piece.input_action_space,
                normalize_actions=piece.normalize_actions,
                clip_actions=piece.clip_actions,
            )
    return pipeline
