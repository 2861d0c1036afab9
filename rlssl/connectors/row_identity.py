"""Learner connector: which episode, step and copy of the environment each row comes from."""

from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rlssl.batches import CHUNK_BEGINS, COPY, EPISODE, STEP, copy_number, episode_number
from rlssl.connectors.intrinsic_reward import CHUNKS


class AddRowIdentity(ConnectorV2):
    """Adds ``EPISODE``, ``STEP``, ``COPY`` and ``CHUNK_BEGINS``; see `rlssl.batches`.

    Insert it after the pieces that add rows. A phantom row has the numbers that the row after the
    chunk would have.
    """

    def __call__(
        self, *, batch: dict[str, Any], shared_data: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        """Adds the columns to the default module's batch."""
        columns = batch[DEFAULT_MODULE_ID]
        mask, chunks = columns[Columns.LOSS_MASK], shared_data[CHUNKS]
        phantoms = int(len(mask) > sum(chunk.num_rows for chunk in chunks))
        lengths = torch.tensor([chunk.num_rows + phantoms for chunk in chunks])
        firsts = lengths.cumsum(0) - lengths
        numbers = torch.tensor([episode_number(chunk.episode_id) for chunk in chunks])
        shifts = torch.tensor([chunk.first_step for chunk in chunks]) - firsts
        begins = torch.zeros(len(mask), dtype=torch.bool)
        begins[firsts] = True
        added = {
            EPISODE: numbers.repeat_interleave(lengths),
            COPY: copy_number(numbers).repeat_interleave(lengths),
            STEP: torch.arange(len(mask)) + shifts.repeat_interleave(lengths),
            CHUNK_BEGINS: begins,
        }
        columns.update({key: value.to(mask.device) for key, value in added.items()})
        return batch
