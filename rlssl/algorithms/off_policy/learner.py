"""The base of all Learners with a replay buffer: many updates between two results."""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from torch import Tensor, nn

from rlssl.algorithms.common.auxiliary_learner import AuxiliaryLearner
from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS
from rlssl.algorithms.off_policy.sampled_bonuses import with_bonuses
from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import is_sampled
from rlssl.batches import take_rows
from rlssl.connectors.intrinsic_reward import TOTAL_REWARDS, AddIntrinsicReward, RecordChunks
from rlssl.connectors.row_identity import AddRowIdentity
from rlssl.connectors.stack_observations import AddStackedObservations
from rlssl.system.denormals import denormals_are_zero
from rlssl.system.random_state import undisturbed_generators


class OffPolicyLearner(AuxiliaryLearner):
    """Makes one update per batch, and returns TD errors for the priorities of its rows.

    Subclasses implement ``compute_rl_loss``, which also sets ``td_errors``, [N], without auxiliary
    losses. Their modules have ``stateful_parts()``: target networks, generators of noise.
    """

    #: [N], >= 0, sizes of the last batch's TD errors; without a graph.
    td_errors: Tensor

    def build(self) -> None:
        """Builds as the bases do."""
        if self._is_built:
            return
        # Agent steps at the last change of schedules; rows and updates since the last report.
        self._agent_steps, self._num_rows, self._num_steps = -1, 0, 0
        self._has_priorities = self.config.replay_settings.prioritized
        super().build()

    def extend_pipeline(self, pipeline: Any) -> None:
        """Adds pieces for `intrinsic_rewards`; batches of the replay buffer need no pipeline."""
        pipeline.prepend(RecordChunks())
        pipeline.insert_before(
            AddObservationsFromEpisodesToBatch,
            AddStackedObservations(
                frame_stack=self.config.frame_stack,
                encoder_config=self.config.network["encoder_config"],
                next_obs=self.needs.has_next_obs,
            ),
        )
        pipeline.append(_AddFullMask())
        if self.needs.has_identity:
            pipeline.append(AddRowIdentity())
        pipeline.append(AddIntrinsicReward(peers=self.peers))

    @denormals_are_zero()
    def update_on(self, batch: Any, *, agent_steps: int) -> Any:
        """One gradient step.

        Args:
            batch: Arrays [N, ...] of a replay buffer, nested or not; or what ``prepare`` of
                `transfers` made of them.
            agent_steps: Agent steps of all runners so far, for the schedules.

        Returns:
            [N], TD errors, for the priorities of the rows; ``numpy.asarray`` waits for them. None
            if the replay buffer has no priorities.
        """
        if agent_steps != self._agent_steps:
            self._agent_steps = agent_steps
            timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: agent_steps}
            self.before_gradient_based_update(timesteps=timesteps)
        if not self.rl_module.training:
            self.rl_module.train()
        self._weights_seq_no += 1
        rows = self.transfers.receive(batch)
        if self._sampled_bonuses:
            rows, bonuses = with_bonuses(rows, self._sampled_bonuses, gamma=self.config.gamma)
            for name, bonus in bonuses.items():
                self.record({"intrinsic_reward": bonus.mean()}, "aux", name)
        self.take_step(rows)
        self._num_rows += len(rows[Columns.REWARDS])
        self._num_steps += 1
        return self.transfers.to_host(self.td_errors) if self._has_priorities else None

    @functools.cached_property
    def _sampled_bonuses(self) -> dict[str, AuxiliaryLoss]:
        """The losses whose intrinsic rewards are computed for each batch."""
        losses = self.rl_module.auxiliary.items()
        return {name: loss for name, loss in losses if is_sampled(loss.config)}

    def update_on_part(self, batch: Mapping[str, Any], *, agent_steps: int) -> Any:
        """As `update_on`, for this Learner's part of a batch that all Learners get."""
        size = len(batch[Columns.REWARDS]) // self.peers.size
        part = slice(self.peers.rank * size, (self.peers.rank + 1) * size)
        return self.update_on(take_rows(batch, part), agent_steps=agent_steps)

    def report(self) -> ResultDict:
        """The metrics of the updates since the last report."""
        if self._num_steps:
            self.record(self.metrics_of_last_update())
            self._log_update(self._num_rows, 1, self._num_steps)
            timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self._agent_steps}
            self.after_gradient_based_update(timesteps=timesteps)
            self._num_rows = self._num_steps = 0
        return self.metrics.reduce()

    def metrics_of_last_update(self) -> dict[str, Tensor]:
        """Metrics that are computed only for reports; without a graph."""
        return {}

    def intrinsic_rewards(self, episodes: Sequence[SingleAgentEpisode]) -> list[np.ndarray]:
        """The weighted intrinsic rewards of new chunks, by the current weights.

        If a loss clips the total reward: the clipped total minus the extrinsic reward.

        Args:
            episodes: This Learner's new chunks; numpy-backed.

        Returns:
            [T] float32 for each chunk.
        """
        batch = self.run_pipeline(episodes)
        bonus = (batch[TOTAL_REWARDS] - batch[Columns.REWARDS]).float().cpu().numpy()
        return np.split(bonus, np.cumsum([len(episode) for episode in episodes])[:-1])

    def compute_auxiliary_loss(
        self, batch: Mapping[str, Any], names: Iterable[str] | None = None
    ) -> Tensor:
        """The weighted sum of auxiliary losses, of one-step columns if there are any.

        Args:
            batch: Columns; ``AUXILIARY_COLUMNS`` replaces those that the losses read differently.
            names: The losses; None: all.
        """
        return super().compute_auxiliary_loss(_auxiliary_rows(batch), names)

    def held_out_losses(self, batch: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Loss -> the mean of each of its terms, on rows that are not trained on.

        Nothing changes: weights, statistics, queues and random numbers are as before.
        """
        with unchanged(self.rl_module), torch.no_grad():
            found = self.held_out_means(self.transfers.receive(batch))
        return {
            name: {term: float(mean) for term, mean in of_loss.items()}
            for name, of_loss in found.items()
        }

    def held_out_means(self, rows: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        """What `held_out_losses` gives; a subclass may add its own loss."""
        return self.auxiliary_means(_auxiliary_rows(rows))

    def stateful_parts(self) -> list[Any]:
        """The losses, the augmentations, and the stateful parts of the algorithm's module."""
        parts: list[Any] = [*super().stateful_parts(), *self.rl_module.stateful_parts()]
        return parts


def _auxiliary_rows(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch with the columns that auxiliary losses read differently."""
    columns = batch.get(AUXILIARY_COLUMNS)
    if columns is None:
        return batch
    # Separate rows have observations; else only some columns of the same rows differ.
    return columns if Columns.OBS in columns else {**batch, **columns}


@contextlib.contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """A context after which buffers and generators of ``module`` are what they were before."""
    generators = [
        (one, one.get_state())
        for part in module.modules()
        for one in vars(part).values()
        if isinstance(one, torch.Generator)
    ]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with undisturbed_generators():
        yield
    for generator, state in generators:
        generator.set_state(state)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


class _AddFullMask(ConnectorV2):
    """Marks all rows as valid: chunks for a replay buffer have no phantom rows."""

    def __call__(self, *, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds LOSS_MASK."""
        columns = batch[DEFAULT_MODULE_ID]
        columns[Columns.LOSS_MASK] = torch.ones_like(columns[Columns.REWARDS], dtype=torch.bool)
        return batch
