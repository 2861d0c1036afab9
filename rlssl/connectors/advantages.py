"""Learner connector: generalized advantage estimation (GAE) on a finished batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rlssl.batches import take_rows
from rlssl.connectors.intrinsic_reward import TOTAL_REWARDS
from rlssl.losses.advantage import generalized_advantage, normalize_advantage
from rlssl.peers import Peers

#: Largest number of rows in a forward pass of the value function; limits memory for pixels.
_VALUE_ROWS = 4096


class AddAdvantages(ConnectorV2):
    """Adds advantages and value targets, and drops the phantom rows.

    Runs after ``AddOneTsToEpisodesAndTruncate``, which adds a phantom row to each chunk: the value
    at this row bootstraps the return after the last step. Without phantom rows, minibatches have
    valid rows only, and as many as the config says.

    Args:
        gamma: Discount per agent step; in [0, 1].
        lambda_: GAE's lambda; in [0, 1].
        normalize: Whether advantages are shifted and scaled to mean 0 and standard deviation (std)
            1 over the batch.
        peers: The Learners that share the batch.
    """

    def __init__(
        self, *args: Any, gamma: float, lambda_: float, normalize: bool, peers: Peers
    ) -> None:
        super().__init__(*args)
        self.gamma = gamma
        self.lambda_ = lambda_
        self.normalize = normalize
        self.peers = peers

    @torch.no_grad()
    def __call__(self, *, rl_module: Any, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Replaces the default module's batch."""
        columns = batch[DEFAULT_MODULE_ID]
        module = rl_module[DEFAULT_MODULE_ID].unwrapped()
        mask = columns[Columns.LOSS_MASK]
        values = torch.cat([module.compute_values(rows) for rows in _slices(columns)]).float()
        advantages = self._advantages(columns, values, mask)
        columns = dict(columns)
        del columns[Columns.LOSS_MASK]
        order = mask.nonzero().squeeze(-1)
        columns[Postprocessing.VALUE_TARGETS] = advantages + values
        columns[Postprocessing.ADVANTAGES] = self._normalized(advantages, mask)
        return {**batch, DEFAULT_MODULE_ID: take_rows(columns, order)}

    def _advantages(self, columns: Mapping[str, Any], values: Tensor, mask: Tensor) -> Tensor:
        """[M], zero on phantom rows."""
        # The row after a valid row always belongs to the same chunk.
        rows = mask.nonzero().squeeze(-1)
        advantages = torch.zeros_like(values)
        advantages[rows] = generalized_advantage(
            columns.get(TOTAL_REWARDS, columns[Columns.REWARDS])[rows].float(),
            values[rows],
            values[rows + 1],
            columns[Columns.TERMINATEDS][rows].float(),
            ~mask[rows + 1],
            gamma=self.gamma,
            lambda_=self.lambda_,
        )
        return advantages

    def _normalized(self, advantages: Tensor, mask: Tensor) -> Tensor:
        if not self.normalize:
            return advantages
        return normalize_advantage(advantages, self.peers.gather(advantages[mask]))


def _slices(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Inputs of the value function, at most ``_VALUE_ROWS`` rows at a time.

    A recurrent module gets the state that it acted with before each row. Each row, phantom rows
    included, is therefore a sequence of length 1.
    """
    read = {key: columns[key] for key in (Columns.OBS, Columns.STATE_IN) if key in columns}
    num_rows = len(columns[Columns.REWARDS])
    for start in range(0, num_rows, _VALUE_ROWS):
        rows = slice(start, start + _VALUE_ROWS)
        yield take_rows(read, rows)
