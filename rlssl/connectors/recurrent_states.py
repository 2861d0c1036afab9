"""Learner connector: recurrent states of the acting policy, and beginnings of sequences."""

from typing import Any

import numpy as np
import tree
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.numpy import convert_to_numpy

#: Column [N], bool: whether a row begins a sequence. All other rows continue a sequence.
SEQUENCE_BEGINS = "sequence_begins"


class AddRecurrentStates(ConnectorV2):
    """Adds STATE_IN, the state before every row, and ``SEQUENCE_BEGINS``.

    Each chunk of an episode is cut into sequences, starting at its first row, so no sequence has
    steps of two episodes. The states are those with which the policy acted. The state before the
    first step of a chunk is the last state of the previous chunk; at the beginning of an episode it
    is the initial state.

    The columns keep one row per step. RLlib's pieces would pad every column with zeros to
    [B, T, ...], but they skip a batch that has STATE_IN. Insert this piece before them and after
    ``AddOneTsToEpisodesAndTruncate``; its extra row then has the state after the last step.

    Args:
        sequence_length: Rows per sequence; the last sequence of a chunk may have fewer rows.
    """

    def __init__(self, *args: Any, sequence_length: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sequence_length = sequence_length

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Any], **_: Any
    ) -> dict[str, Any]:
        """Adds the columns, with one row per agent step of each chunk.

        Raises:
            ValueError: If a chunk lacks the state before its first step.
        """
        initial = convert_to_numpy(rl_module[DEFAULT_MODULE_ID].unwrapped().get_initial_state())
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            length = len(episode)
            states = _states_before(episode, initial)
            begins = np.arange(length) % self.sequence_length == 0
            self.add_n_batch_items(batch, Columns.STATE_IN, states, length, episode)
            self.add_n_batch_items(batch, SEQUENCE_BEGINS, begins, length, episode)
        return batch


def _states_before(episode: SingleAgentEpisode, initial: Any) -> Any:
    """Struct of [len, ...], the state before every step of a chunk."""
    if Columns.STATE_OUT not in episode.extra_model_outputs:
        raise ValueError(
            f"the episodes have no '{Columns.STATE_OUT}', which a recurrent policy needs to learn "
            "from them. Sample with the policy, not with random actions."
        )
    first = initial
    if episode.t_started > 0:
        if episode.extra_model_outputs[Columns.STATE_OUT].lookback < 1:
            raise ValueError(
                f"a chunk that starts at step {episode.t_started} lacks the state before it; set "
                "episode_lookback_horizon >= 1."
            )
        first = episode.get_extra_model_outputs(Columns.STATE_OUT, -1, neg_index_as_lookback=True)
    after = episode.get_extra_model_outputs(Columns.STATE_OUT, slice(0, len(episode) - 1))
    return tree.map_structure(
        lambda state, later: np.concatenate([np.asarray(state)[None], later]), first, after
    )
