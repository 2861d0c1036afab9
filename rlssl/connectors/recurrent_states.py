"""Learner connector: the recurrent states that a policy acted with, and where sequences begin."""

from typing import Any

import numpy as np
import tree
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.numpy import convert_to_numpy

#: Column [N], bool: rows that begin a sequence; the rows up to the next one continue it.
SEQUENCE_BEGINS = "sequence_begins"


class AddRecurrentStates(ConnectorV2):
    """Adds STATE_IN, the state before every row, and ``SEQUENCE_BEGINS``.

    Each chunk of an episode is cut into sequences from its first row on; so none holds steps of two
    episodes. States are those of acting time: the one before a chunk's first step is the last one
    of the chunk before, or the initial one where the episode begins.

    Rows stay rows: RLlib's own pieces, which would pad every column with zeros to [B, T, ...],
    leave a batch alone that has STATE_IN. Insert it before them, and behind
    ``AddOneTsToEpisodesAndTruncate``, whose extra row then has the state after the last step.

    Args:
        sequence_length: Rows of a sequence; a chunk's last one may have fewer.
    """

    def __init__(self, *args: Any, sequence_length: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sequence_length = sequence_length

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Any], **_: Any
    ) -> dict[str, Any]:
        """Adds the columns, one row an agent step of each chunk.

        Raises:
            ValueError: If a chunk lacks the state that it begins with.
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
    """Struct of [len, ...]: the state before every step of a chunk."""
    if Columns.STATE_OUT not in episode.extra_model_outputs:
        raise ValueError(
            "a recurrent policy learns from episodes that it acted in; these have no "
            f"'{Columns.STATE_OUT}'. Do not sample with random actions."
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
