"""Learner connectors that add the auxiliary losses' intrinsic rewards to the batch."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import MEAN_ACTION, POLICY, AuxiliaryLoss, ChunkInfo, DeclaredColumns
from rlssl.auxiliary.bonus_options import has_own_stream, is_sampled
from rlssl.batches import take_rows
from rlssl.peers import Peers

#: Column of extrinsic plus intrinsic rewards, from which advantages are estimated.
#: `Columns.REWARDS` stays extrinsic.
TOTAL_REWARDS = "total_rewards"

#: Columns [M] by loss: unweighted intrinsic rewards, zero on padding rows, of the losses with a
#: stream of their own and an ``intrinsic_coeff`` above 0.
STREAM_REWARDS = "stream_rewards"

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
    +-``reward_clip``, as in Pathak et al. 2017. The rewards of losses with a stream of their own
    are not in the sum, but in ``STREAM_REWARDS``. Logged are the mean of the unweighted intrinsic
    reward, as ``aux/<name>/intrinsic_reward``, and the weighted, unclipped returns of episodes,
    those of all streams together. Rewards that are computed for each batch (``bonus_when:
    sampled``) are left out.
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
        """Adds the columns to the default module's batch if a loss has a reward."""
        losses = rl_module[DEFAULT_MODULE_ID].unwrapped().auxiliary
        if not len(losses):
            return batch
        columns = batch[DEFAULT_MODULE_ID]
        mask = columns[Columns.LOSS_MASK]
        chunks = shared_data[CHUNKS]
        stored = {name: loss for name, loss in losses.items() if not is_sampled(loss.config)}
        raw = intrinsic_rewards(stored, columns, mask, chunks)
        if not raw:
            return batch
        if metrics is not None:
            for name, reward in raw.items():
                key = (DEFAULT_MODULE_ID, "aux", name, "intrinsic_reward")
                metrics.log_value(key, reward.mean(), window=1)
        weighted = {name: losses[name].config.intrinsic_coeff * raw[name] for name in raw}
        own = {name for name in raw if has_own_stream(losses[name].config)}
        shared = {name: reward for name, reward in weighted.items() if name not in own}
        if shared:
            total = columns[Columns.REWARDS].clone()
            total[mask] = total_rewards(losses, total[mask], shared)
            columns[TOTAL_REWARDS] = total
        used = {name for name in own if losses[name].config.intrinsic_coeff > 0}
        if used:
            streams = {name: _with_padding(raw[name], mask) for name in raw if name in used}
            columns[STREAM_REWARDS] = streams
        self._log_returns(functools.reduce(torch.add, weighted.values()), chunks, metrics)
        return batch

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


def intrinsic_rewards(
    losses: Mapping[str, AuxiliaryLoss],
    columns: Mapping[str, Any],
    mask: Tensor | slice,
    chunks: list[ChunkInfo] | None,
) -> dict[str, Tensor]:
    """Loss -> [V], the unweighted intrinsic rewards.

    Args:
        losses: By name; losses without an intrinsic reward are left out.
        columns: [M, ...] each, the columns that the losses read.
        mask: The rows to reward.
        chunks: Their chunks, in the same order; None: the rows have no order.
    """
    found = {}
    for name, loss in losses.items():
        if type(loss).intrinsic_reward is AuxiliaryLoss.intrinsic_reward:
            continue
        # The Learner adds the mean action and the policy for losses only.
        rows = take_rows({key: columns[key] for key in loss.reads - {MEAN_ACTION, POLICY}}, mask)
        if chunks is not None:
            rows["chunks"] = chunks
        raw = loss.intrinsic_reward(DeclaredColumns(name, loss.reads, rows))
        if raw is not None:
            found[name] = raw
        elif has_own_stream(loss.config):
            raise ValueError(
                f"loss '{name}' has stream=own, but gives no intrinsic reward; leave stream out."
            )
    return found


def total_rewards(
    losses: Mapping[str, AuxiliaryLoss], rewards: Tensor, weighted: Mapping[str, Tensor]
) -> Tensor:
    """[N], the sum of extrinsic and weighted intrinsic rewards, clipped if a loss says so."""
    total = rewards + functools.reduce(torch.add, weighted.values()).to(rewards.dtype)
    clips: list[Any] = [
        loss.reward_clip
        for loss in (losses[name] for name in weighted)
        if getattr(loss, "reward_clip", None) is not None and loss.config.intrinsic_coeff > 0
    ]
    return total.clamp(-min(clips), min(clips)) if clips else total


def _with_padding(rows: Tensor, mask: Tensor) -> Tensor:
    """[M], float32: the rows where ``mask`` is true, zeros elsewhere."""
    padded = torch.zeros(len(mask), device=rows.device)
    padded[mask] = rows.float()
    return padded
