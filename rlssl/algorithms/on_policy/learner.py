"""The base of PPO's and A3C's Learners: turns episode chunks into a batch with advantages."""

from typing import Any

from ray.rllib.connectors.learner import (
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
)
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI

from rlssl.algorithms.common.auxiliary_learner import AuxiliaryLearner
from rlssl.connectors.advantages import AddAdvantages
from rlssl.connectors.intrinsic_reward import AddIntrinsicReward, RecordChunks
from rlssl.connectors.recurrent_states import AddRecurrentStates
from rlssl.connectors.stack_observations import AddStackedObservations


class OnPolicyLearner(AuxiliaryLearner):
    """Learns from chunks of episodes that the current policy sampled.

    The batch has stacked observations, recurrent states if the module is recurrent, intrinsic
    rewards, and advantages.
    """

    def extend_pipeline(self, pipeline: Any) -> None:
        """Adds the pieces that on-policy learning from episode chunks needs."""
        pipeline.prepend(AddOneTsToEpisodesAndTruncate())
        pipeline.prepend(RecordChunks())
        module = self.rl_module
        reads = {column for loss in module.auxiliary.values() for column in loss.reads}
        pipeline.insert_before(
            AddObservationsFromEpisodesToBatch,
            AddStackedObservations(
                frame_stack=self.config.frame_stack,
                encoder_config=self.config.network["encoder_config"],
                next_obs=Columns.NEXT_OBS in reads,
            ),
        )
        if module.is_stateful():
            pipeline.insert_before(
                AddObservationsFromEpisodesToBatch,
                AddRecurrentStates(sequence_length=module.sequence_length),
            )
        pipeline.append(AddIntrinsicReward(peers=self.peers))
        pipeline.append(
            AddAdvantages(
                gamma=self.config.gamma,
                lambda_=self.config.lambda_,
                normalize=self.config.normalize_advantages,
                peers=self.peers,
            )
        )

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
