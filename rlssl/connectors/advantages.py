"""Learner connector: generalized advantage estimation (GAE) on a finished batch."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rlssl.auxiliary.base import ChunkInfo
from rlssl.batches import take_rows
from rlssl.connectors.intrinsic_reward import CHUNKS, STREAM_REWARDS, TOTAL_REWARDS
from rlssl.connectors.rollout_order import continuing_advantage
from rlssl.losses.advantage import generalized_advantage, normalize_advantage
from rlssl.peers import Peers

#: Columns, by loss: [N], what the value heads of streams of their own learn.
STREAM_TARGETS = "stream_targets"

#: Largest number of rows in a forward pass of the value function; limits memory for pixels.
_VALUE_ROWS = 4096


class AddAdvantages(ConnectorV2):
    """Adds advantages and value targets, and drops the phantom rows.

    Runs after ``AddOneTsToEpisodesAndTruncate``, which adds a phantom row to each chunk: the value
    at this row bootstraps the return after the last step. Without phantom rows, minibatches have
    valid rows only, and as many as the config says.

    The advantages of losses with a stream of their own are estimated separately and added, weighted
    by ``intrinsic_coeff``, before advantages are normalized; see `BonusConfig`. The mean size of
    such a weighted advantage is logged as ``aux/<name>/advantage_size``.

    Args:
        gamma: Discount per agent step; in [0, 1].
        lambda_: GAE's lambda, of all streams; in [0, 1].
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
    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        shared_data: dict[str, Any],
        metrics: Any = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Replaces the default module's batch."""
        columns = dict(batch[DEFAULT_MODULE_ID])
        module = rl_module[DEFAULT_MODULE_ID].unwrapped()
        mask = columns.pop(Columns.LOSS_MASK)
        streams = columns.pop(STREAM_REWARDS, {})
        values, values_of = _values(module, columns)
        rewards = columns[TOTAL_REWARDS if TOTAL_REWARDS in columns else Columns.REWARDS].float()
        terminated = columns[Columns.TERMINATEDS]
        advantages = self._advantages(rewards, values, terminated, mask, self.gamma)
        columns[Postprocessing.VALUE_TARGETS] = advantages + values
        if streams:
            columns[STREAM_TARGETS] = {}
        for name, intrinsic in streams.items():
            config, values = module.auxiliary[name].config, values_of[name]
            gamma = config.stream_gamma
            if config.stream_episodic:
                own = self._advantages(intrinsic, values, terminated, mask, gamma)
            else:
                chunks = shared_data[CHUNKS]
                own = self.continuing_advantages(intrinsic, values, mask, chunks, gamma=gamma)
            columns[STREAM_TARGETS][name] = own + values
            weighted = config.intrinsic_coeff * own
            advantages = advantages + weighted
            if metrics is not None:
                key = (DEFAULT_MODULE_ID, "aux", name, "advantage_size")
                metrics.log_value(key, weighted[mask].abs().mean(), window=1)
        columns[Postprocessing.ADVANTAGES] = self._normalized(advantages, mask)
        order = mask.nonzero().squeeze(-1)
        return {**batch, DEFAULT_MODULE_ID: take_rows(columns, order)}

    def _advantages(
        self, rewards: Tensor, values: Tensor, terminated: Tensor, mask: Tensor, gamma: float
    ) -> Tensor:
        """[M], zero on phantom rows."""
        # The row after a valid row always belongs to the same chunk.
        rows = mask.nonzero().squeeze(-1)
        advantages = torch.zeros_like(values)
        advantages[rows] = generalized_advantage(
            rewards[rows],
            values[rows],
            values[rows + 1],
            terminated[rows].float(),
            ~mask[rows + 1],
            gamma=gamma,
            lambda_=self.lambda_,
        )
        return advantages

    def continuing_advantages(
        self,
        rewards: Tensor,
        values: Tensor,
        mask: Tensor,
        chunks: Sequence[ChunkInfo],
        *,
        gamma: float,
    ) -> Tensor:
        """Advantages of a stream of rewards that no end of an episode cuts.

        Args:
            rewards: [M], intrinsic rewards.
            values: [M], of the stream, phantom rows included.
            mask: [M], False on the phantom row at the end of each chunk.
            chunks: The chunks, in the order of the rows.
            gamma: Discount of the stream.

        Returns:
            [M], zero on phantom rows.
        """
        rows = mask.nonzero().squeeze(-1)
        # Another Learner may have the chunk that continues one of this Learner's chunks.
        everyone = continuing_advantage(
            self.peers.gather(rewards[rows]),
            self.peers.gather(values[rows]),
            self.peers.gather(values[rows + 1][~mask[rows + 1]]),
            [*itertools.chain(*self.peers.gather_objects(list(chunks)))],
            gamma=gamma,
            lambda_=self.lambda_,
        )
        first, _ = self.peers.rows(len(rows))
        advantages = torch.zeros_like(values)
        advantages[rows] = everyone[first : first + len(rows)]
        return advantages

    def _normalized(self, advantages: Tensor, mask: Tensor) -> Tensor:
        if not self.normalize:
            return advantages
        return normalize_advantage(advantages, self.peers.gather(advantages[mask]))


def _values(module: Any, columns: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """[M], values of the rows; and for each loss with a stream of its own [M], values of it."""
    parts: list[Tensor] = []
    parts_of: dict[str, list[Tensor]] = {name: [] for name in module.intrinsic_vf}
    for rows in _slices(columns):
        embeddings = module.critic_embeddings(rows)
        parts.append(module.compute_values(rows, embeddings=embeddings).float())
        for name, value in module.compute_intrinsic_values(embeddings).items():
            parts_of[name].append(value.float())
    return torch.cat(parts), {name: torch.cat(part) for name, part in parts_of.items()}


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
