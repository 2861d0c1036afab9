"""The networks of behavior cloning: a stochastic policy, and the auxiliary losses."""

from collections.abc import Mapping
from typing import Any

from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.off_policy.module import OffPolicyModule
from rlssl.algorithms.on_policy.actor_module import ActorModule, through_lstm


class BCModule(ActorModule, OffPolicyModule):
    """PPO's policy without a critic; in a Learner also the auxiliary losses.

    Encoder, LSTM and policy head have the names that they have in PPO's module, so that PPO can
    begin with a clone's weights. Continuous actions have a Gaussian in the module's units, [-1, 1]
    between two bounds. It has a density at the bounds, where a distribution squashed by a tanh has
    none. Its standard deviation has a lower bound, because that of a policy which imitates exactly
    would go to 0.
    """

    min_log_std = -5.0

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        self.build_actor()
        self.augmentation = self.next_augmentation = None
        self.auxiliary = nn.ModuleDict()
        if not self.inference_only:
            self.build_views_and_losses()

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs."""
        return ["augmentation", "next_augmentation", "auxiliary"]

    def stateful_parts(self) -> list[Any]:
        """The parts whose ``after_update()`` the Learner calls: none besides the losses."""
        return []

    def policy_inputs(self, rows: Mapping[str, Any]) -> Tensor:
        """[N, ...], the inputs of the distribution of actions, without augmentation.

        Args:
            rows: OBS [N, ...]; for a recurrent module also STATE_IN and ``SEQUENCE_BEGINS``.
        """
        return self.pi(through_lstm(self.lstm, self.encoder(rows[Columns.OBS]), rows, ""))
