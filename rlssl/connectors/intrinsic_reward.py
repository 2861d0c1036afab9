"""Learner connectors that add the auxiliary losses' intrinsic rewards to the batch."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import MEAN_ACTION, AuxiliaryLoss, ChunkInfo, DeclaredColumns
from rlssl.batches import take_rows
from rlssl.peers import Peers

#: Column of extrinsic plus intrinsic rewards, from which advantages are estimated.
#: `Columns.REWARDS` stays extrinsic.
TOTAL_REWARDS = "total_rewards"

#: Metric: the weighted intrinsic returns of finished episodes.
INTRINSIC_RETURNS = "intrinsic_returns"

#: Key of the shared data through which `RecordChunks` passes chunks to `AddIntrinsicReward`.
CHUNKS = "rlssl_chunks"


class RecordChunks(ConnectorV2):
    """Records the `ChunkInfo` of each chunk, before later pieces rename and extend the chunks."""

    def __call__(
        self, *, batch: dict[str, Any], episodes: list[Any], shared_data: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        """Returns ``batch`` unchanged."""
        shared_data[CHUNKS] = [
            ChunkInfo(episode.id_, len(episode), episode.t_started, episode.is_done)
            for episode in episodes
        ]
        return batch


class AddIntrinsicReward(ConnectorV2):
    """Adds a column: ``reward + sum_i intrinsic_coeff_i * intrinsic_reward_i``, before GAE.

    If a loss has a ``reward_clip`` and a coefficient above 0, the sum is clipped to
    +-``reward_clip``, as in Pathak et al. 2017. Logged are the mean of the unweighted intrinsic
    reward, as ``aux/<name>/intrinsic_reward``, and the weighted, unclipped returns of episodes.
    """

    def __init__(self, *args: Any, peers: Peers, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.peers = peers
        # Episode id -> weighted intrinsic return so far, for unfinished episodes.
        self._open_returns: dict[str, float] = {}

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        shared_data: dict[str, Any],
        metrics: Any = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Adds ``TOTAL_REWARDS`` to the default module's batch if a loss has a reward."""
        losses = rl_module[DEFAULT_MODULE_ID].unwrapped().auxiliary
        if not len(losses):
            return batch
        columns = batch[DEFAULT_MODULE_ID]
        mask = columns[Columns.LOSS_MASK]
        chunks = shared_data[CHUNKS]
        rewards = columns[Columns.REWARDS][mask]
        rewards, bonus = self._add(losses, columns, mask, chunks, rewards, metrics)
        if bonus is not None:
            columns[TOTAL_REWARDS] = columns[Columns.REWARDS].clone()
            columns[TOTAL_REWARDS][mask] = rewards
            self._log_returns(bonus, chunks, metrics)
        return batch

    def _add(
        self,
        losses: Any,
        columns: Mapping[str, Any],
        mask: Tensor,
        chunks: list[ChunkInfo],
        rewards: Tensor,
        metrics: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The new rewards of the valid rows, and the weighted bonus or None."""
        bonus, clips = None, []
        for name, loss in losses.items():
            if type(loss).intrinsic_reward is AuxiliaryLoss.intrinsic_reward:
                continue
            # The Learner computes the mean action for losses only, so it is not in this batch.
            rows = take_rows({key: columns[key] for key in loss.reads - {MEAN_ACTION}}, mask)
            rows["chunks"] = chunks
            raw = loss.intrinsic_reward(DeclaredColumns(name, loss.reads, rows))
            if raw is None:
                continue
            if metrics is not None:
                key = (DEFAULT_MODULE_ID, "aux", name, "intrinsic_reward")
                metrics.log_value(key, raw.mean(), window=1)
            weighted = loss.config.intrinsic_coeff * raw
            bonus = weighted if bonus is None else bonus + weighted
            clip = getattr(loss, "reward_clip", None)
            if clip is not None and loss.config.intrinsic_coeff > 0:
                clips.append(clip)
        if bonus is None:
            return rewards, None
        rewards = rewards + bonus.to(rewards.dtype)
        return (rewards.clamp(-min(clips), min(clips)) if clips else rewards), bonus

    def _log_returns(self, bonus: Tensor, chunks: list[ChunkInfo], metrics: Any) -> None:
        parts = torch.split(bonus, [chunk.num_rows for chunk in chunks])
        sums = [(c.episode_id, float(part.sum())) for c, part in zip(chunks, parts, strict=True)]
        finished = {chunk.episode_id for chunk in chunks if chunk.is_done}
        # Several Learners may hold chunks of one episode. The Learner with the last chunk logs it.
        totals: dict[str, float] = {}
        ended: set[str] = set()
        for their_sums, their_finished in self.peers.gather_objects((sums, finished)):
            ended |= their_finished
            for episode_id, value in their_sums:
                so_far = totals.get(episode_id, self._open_returns.get(episode_id, 0.0))
                totals[episode_id] = so_far + value
        for episode_id in (chunk.episode_id for chunk in chunks if chunk.is_done):
            if metrics is not None:
                key = (DEFAULT_MODULE_ID, INTRINSIC_RETURNS)
                metrics.log_value(key, totals[episode_id], reduce="item_series")
        self._open_returns = {key: value for key, value in totals.items() if key not in ended}
