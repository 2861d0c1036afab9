"""Behavior cloning beside RL: the policy also learns the actions of demonstrations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import POLICY
from rlssl.auxiliary.imitation.demonstrations import DemonstrationLoss, DemonstrationOptions
from rlssl.auxiliary.imitation.policies import RatedPolicy
from rlssl.errors import SpecError


class BehaviorCloning(DemonstrationLoss):
    """Pulls the policy to the actions of demonstrations, beside the RL loss.

    For steps (s, a) of the demonstrations::

        ppo, a3c   loss = -log pi(a|s)
        sac, ddpg  loss = ||pi(s) - a||^2, pi(s) the action without noise
        rainbow    loss = max_b [Q(s, b) + margin * 1[b != a]] - Q(s, a)

    With ``q_filter``, only steps count at which the critic thinks that the demonstration is better
    than the policy: ``Q(s, a) > Q(s, pi(s))``. So the policy can become better than them.

    SAC and DDPG take the loss in the actor's step, so it does not train the critics.

    Source:
        Nair et al. 2018, Overcoming Exploration in Reinforcement Learning with Demonstrations,
        arXiv:1709.10089 (ddpg, the filter); Hester et al. 2017, arXiv:1704.03732 (rainbow);
        Rajeswaran et al. 2017, arXiv:1709.10087 (policy gradients). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(DemonstrationOptions):
        """Options of behavior cloning."""

        # Steps of the demonstrations in a gradient step, of all Learners together; >= 1; None: as
        # many as rows of the minibatch.
        rows: int | None = None
        # Whether only steps count whose action the critic prefers to the policy's (sac, ddpg).
        q_filter: bool = False
        # Rainbow: by how much the demonstrated action must be better, units of the return; >= 0;
        # 0.8 as published, for clipped or scaled rewards.
        margin: float = 0.8

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if self.rows is not None:
                self._check_whole("rows")
            if not self.margin >= 0:
                raise ValueError(f"margin must be >= 0; got {self.margin}.")

    config: Config

    # ACTIONS only count the rows.
    reads = frozenset({Columns.ACTIONS, POLICY})
    trains = "policy"

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self._passed: Tensor | None = None

    def check_policy(self, policy: Any) -> None:
        """Refuses the filter for a policy without a critic of actions."""
        if self.config.q_filter and not callable(getattr(policy, "action_advantages", None)):
            raise SpecError(
                "q_filter compares action values of an actor and of demonstrations, which only sac "
                "and ddpg have; set it to false."
            )

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``cloning``, [N], nats, squared action units, or units of the return; see the class."""
        policy: RatedPolicy = batch[POLICY]
        actions = batch[Columns.ACTIONS]
        num = len(actions)
        if self.config.rows is not None:
            num = max(1, self.config.rows // self.peers.size)
        steps = self.draw(num, [Columns.OBS, Columns.ACTIONS], actions.device)
        given = steps[Columns.OBS], steps[Columns.ACTIONS]
        values = policy.cloning_losses(*given, margin=self.config.margin)
        if self.config.q_filter:
            self._passed = policy.action_advantages(*given) > 0
            values = torch.where(self._passed, values, 0.0)
        return {"cloning": values}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``passed_share``: of the steps, those that pass the filter; empty without a filter."""
        del batch
        return {} if self._passed is None else {"passed_share": self._passed.float().mean()}
