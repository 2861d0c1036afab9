"""What a loss may ask of the policy that it trains beside the RL loss."""

from typing import Any, Protocol

from torch import Tensor, nn

from rlssl.errors import SpecError


class ClonedPolicy(Protocol):
    """A policy that can learn to choose given actions; RLModules of rlssl implement it."""

    def cloning_losses(self, observations: Any, actions: Tensor, *, margin: float) -> Tensor:
        """How far the policy is from choosing the given actions.

        Args:
            observations: [N, ...], stacked.
            actions: [N, ...], as the policy gives them.
            margin: Of action values, in units of the return: the given action must be better than
                the others by it. Policies with an actor do not use it.

        Returns:
            [N], not reduced. A stochastic policy: ``-log pi(a|s)``, nats. An actor: the squared
            distance of its best action, summed over the dimensions. Action values: ``max_b [Q(s, b)
            + margin 1[b != a]] - Q(s, a)``.
        """

    def policy_parameters(self) -> list[nn.Parameter]:
        """The parameters that these losses train."""


class RatedPolicy(ClonedPolicy, Protocol):
    """A policy whose actions are rated by a critic."""

    def action_advantages(self, observations: Any, actions: Tensor) -> Tensor:
        """[N], ``Q(s, a) - Q(s, pi(s))``, units of the return; without gradients."""


def check_cloned(loss: str, policy: Any) -> None:
    """Refuses a policy that cannot learn given actions.

    Args:
        loss: Name of the loss that needs it.
        policy: An RLModule.

    Raises:
        SpecError: If it has no policy to train, or a recurrent one.
    """
    if not callable(getattr(policy, "cloning_losses", None)):
        raise SpecError(
            f"auxiliary.{loss} trains the policy beside the RL loss, and there is none here; "
            "choose ppo, a3c, rainbow, sac or ddpg."
        )
    if policy.get_initial_state():  # `is_stateful` is not known before the module is built
        raise SpecError(
            f"auxiliary.{loss} trains single steps, and a recurrent policy needs those before "
            "them; leave model.lstm out."
        )
