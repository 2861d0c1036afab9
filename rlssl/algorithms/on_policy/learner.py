"""The base of PPO's and A3C's Learners: turns episode chunks into a batch with advantages."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.connectors.learner import (
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import VF_LOSS_KEY
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor, nn

from rlssl.algorithms.common.auxiliary_learner import AuxiliaryLearner, trainable
from rlssl.auxiliary.windows import POSITION, BatchWindows, Window
from rlssl.batches import CHUNK_BEGINS
from rlssl.connectors.advantages import STREAM_TARGETS, AddAdvantages
from rlssl.connectors.intrinsic_reward import AddIntrinsicReward, RecordChunks
from rlssl.connectors.recurrent_states import AddRecurrentStates
from rlssl.connectors.row_identity import AddRowIdentity
from rlssl.connectors.stack_observations import AddStackedObservations
from rlssl.losses import value_loss

#: Name of the optimizer of the value heads of intrinsic streams.
INTRINSIC_VALUE_OPTIMIZER = "intrinsic_values"


class OnPolicyLearner(AuxiliaryLearner):
    """Learns from chunks of episodes that the current policy sampled.

    The batch has stacked observations, recurrent states if the module is recurrent, intrinsic
    rewards, and advantages.
    """

    def extend_pipeline(self, pipeline: Any) -> None:
        """Adds the pieces that on-policy learning from episode chunks needs."""
        pipeline.prepend(AddOneTsToEpisodesAndTruncate())
        pipeline.prepend(RecordChunks())
        module, needs = self.rl_module, self.needs
        pipeline.insert_before(
            AddObservationsFromEpisodesToBatch,
            AddStackedObservations(
                frame_stack=self.config.frame_stack,
                encoder_config=self.config.network["encoder_config"],
                next_obs=needs.has_next_obs or needs.has_windows,
            ),
        )
        if module.is_stateful():
            pipeline.insert_before(
                AddObservationsFromEpisodesToBatch,
                AddRecurrentStates(sequence_length=module.sequence_length),
            )
        if needs.has_identity or needs.has_windows:
            pipeline.append(AddRowIdentity())
        pipeline.append(AddIntrinsicReward(peers=self.peers))
        pipeline.append(
            AddAdvantages(
                gamma=self.config.gamma,
                lambda_=self.config.lambda_,
                normalize=self.config.normalize_advantages,
                peers=self.peers,
            )
        )

    def whole_batch(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Keeps the rows from which windows are taken, and numbers them."""
        if not self.needs.has_windows:
            return rows
        self._windows = BatchWindows(rows, self.needs.window_reads)
        if not self.needs.has_next_obs:
            del rows[Columns.NEXT_OBS]
        position = torch.arange(len(rows[CHUNK_BEGINS]), device=rows[CHUNK_BEGINS].device)
        return {**rows, POSITION: position}

    def windows(self, rows: Mapping[str, Any], window: Window) -> Mapping[str, Any]:
        """See the base; from the batch that these rows are a part of."""
        return self._windows.at(rows[POSITION], window)

    def head_groups(self) -> dict[str, list[nn.Parameter]]:
        """As the base; the value heads of intrinsic streams have an optimizer of their own.

        With the RL parameters, their gradient would count in the norm that is clipped.
        """
        groups = super().head_groups()
        if heads := trainable(self.rl_module.intrinsic_vf):
            groups[INTRINSIC_VALUE_OPTIMIZER] = heads
        return groups

    def critic_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The sum of the mean losses of all value heads; records each of them."""
        module = self.rl_module
        embeddings = fwd_out.get(Columns.EMBEDDINGS)
        if embeddings is None:
            embeddings = module.critic_embeddings(batch)
        values = module.compute_values(batch, embeddings=embeddings)
        total = value_loss(values, batch[Postprocessing.VALUE_TARGETS]).mean()
        self.record({VF_LOSS_KEY: total.detach()})
        if STREAM_TARGETS in batch:
            values_of = module.compute_intrinsic_values(embeddings)
            for name, target in batch[STREAM_TARGETS].items():
                intrinsic = value_loss(values_of[name], target).mean()
                self.record({"value_loss": intrinsic.detach()}, "aux", name)
                total = total + intrinsic
        return total

    def weight_of_rows(self, num_rows: int) -> float:
        """The weight of this Learner's mean over ``num_rows`` rows; 1 with a single Learner.

        Learners may have minibatches of different sizes. If each multiplies its mean by this
        weight, the average over the Learners is the mean over the rows of all Learners.
        """
        (mean,) = self.peers.mean_counts([num_rows])
        return num_rows / mean if mean else 1.0

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """The interfaces that the module must implement."""
        return [ValueFunctionAPI]
