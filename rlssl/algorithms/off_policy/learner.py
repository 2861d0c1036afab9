"""A Learner that is fed with batches of a replay, many between two results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import AddObservationsFromEpisodesToBatch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.typing import ResultDict
from torch import Tensor

from rlssl.algorithms.common.auxiliary_learner import AuxiliaryLearner
from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS
from rlssl.batches import take_rows, to_tensors
from rlssl.connectors.intrinsic_reward import TOTAL_REWARDS, AddIntrinsicReward, RecordChunks
from rlssl.connectors.stack_observations import AddStackedObservations
from rlssl.system.denormals import denormals_are_zero


class OffPolicyLearner(AuxiliaryLearner):
    """One update a batch; what was learned from each row goes back as its TD error.

    Subclasses implement ``compute_rl_loss``, which sets ``td_errors``, [N], of the RL loss alone.
    Their modules give ``stateful_parts()``: target networks, generators of noise.
    """

    #: [N], >= 0, of the last batch; without a graph.
    td_errors: Tensor

    def build(self) -> None:
        """Builds as the bases do."""
        if self._is_built:
            return
        # Agent steps that the schedules stand at, and rows since the last report.
        self._agent_steps, self._num_rows, self._num_steps = -1, 0, 0
        super().build()

    def extend_pipeline(self, pipeline: Any) -> None:
        """The pipeline serves `intrinsic_rewards` alone: batches come ready from the replay."""
        reads = {column for loss in self.rl_module.auxiliary.values() for column in loss.reads}
        pipeline.prepend(RecordChunks())
        pipeline.insert_before(
            AddObservationsFromEpisodesToBatch,
            AddStackedObservations(
                frame_stack=self.config.frame_stack, next_obs=Columns.NEXT_OBS in reads
            ),
        )
        pipeline.append(_AddFullMask())
        pipeline.append(AddIntrinsicReward(peers=self.peers))

    @denormals_are_zero()
    def update_on(self, batch: Mapping[str, Any], *, agent_steps: int) -> np.ndarray:
        """One gradient step.

        Args:
            batch: Arrays [N, ...] of a replay, nested or not.
            agent_steps: Sampled so far by all runners, for the schedules.

        Returns:
            [N], TD errors, for the priorities of the rows.
        """
        if agent_steps != self._agent_steps:
            self._agent_steps = agent_steps
            timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: agent_steps}
            self.before_gradient_based_update(timesteps=timesteps)
        if not self.rl_module.training:
            self.rl_module.train()
        self._weights_seq_no += 1
        rows = to_tensors(batch, torch.device(self.device))
        self.take_step(rows)
        self._num_rows += len(rows[Columns.REWARDS])
        self._num_steps += 1
        errors: np.ndarray = self.td_errors.cpu().numpy()
        return errors

    def update_on_part(self, batch: Mapping[str, Any], *, agent_steps: int) -> np.ndarray:
        """As `update_on`, on this Learner's share of a batch that all Learners get."""
        size = len(batch[Columns.REWARDS]) // self.peers.size
        own = slice(self.peers.rank * size, (self.peers.rank + 1) * size)
        return self.update_on(take_rows(batch, own), agent_steps=agent_steps)

    def report(self) -> ResultDict:
        """What the updates since the last report logged."""
        if self._num_steps:
            self.record(self.metrics_of_last_update())
            self._log_update(self._num_rows, 1, self._num_steps)
            timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self._agent_steps}
            self.after_gradient_based_update(timesteps=timesteps)
            self._num_rows = self._num_steps = 0
        return self.metrics.reduce()

    def metrics_of_last_update(self) -> dict[str, Tensor]:
        """What is worked out for reports alone; without a graph."""
        return {}

    def intrinsic_rewards(self, episodes: Sequence[SingleAgentEpisode]) -> list[np.ndarray]:
        """What the auxiliary losses add to the rewards of new chunks, by today's weights.

        Weighted; where a loss clips the sum of rewards, what is left of it after the clip.

        Args:
            episodes: This Learner's chunks, each new; numpy-backed.

        Returns:
            [T] float32 for each chunk.
        """
        batch = self._learner_connector(
            rl_module=self.module,
            batch={},
            episodes=list(episodes),
            shared_data={},
            metrics=self.metrics,
        )[DEFAULT_MODULE_ID]
        bonus = (batch[TOTAL_REWARDS] - batch[Columns.REWARDS]).float().cpu().numpy()
        return np.split(bonus, np.cumsum([len(episode) for episode in episodes])[:-1])

    def compute_auxiliary_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """As for every Learner, of single steps where the RL loss sees several.

        Args:
            batch: With ``AUXILIARY_COLUMNS``, where the losses read others than the RL loss.
        """
        own = batch.get(AUXILIARY_COLUMNS)
        if own is not None:
            # Rows of their own, or the RL loss's rows with other columns.
            batch = own if Columns.OBS in own else {**batch, **own}
        return super().compute_auxiliary_loss(batch)

    def stateful_parts(self) -> list[Any]:
        """The losses, the augmentations, and what the algorithm's module names."""
        parts: list[Any] = [*super().stateful_parts(), *self.rl_module.stateful_parts()]
        return parts


class _AddFullMask(ConnectorV2):
    """All rows are valid: chunks for a replay have no phantom rows."""

    def __call__(self, *, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds LOSS_MASK."""
        columns = batch[DEFAULT_MODULE_ID]
        columns[Columns.LOSS_MASK] = torch.ones_like(columns[Columns.REWARDS], dtype=torch.bool)
        return batch
