"""What the configs of SAC and DDPG share: an actor that learns through its critic."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.environments.preflight import EnvSpaces
from rlssl.errors import SpecError

#: Options of losses, the `auxiliary_step` that each needs, and why.
_STEPS_NEEDED = (
    ("double_encoder_step", "separate", "where the encoder's step for the loss is its own"),
    ("isolated", "joint", "whose one step leaves the RL loss's gradient out"),
)


class OffPolicyActorCriticConfig(OffPolicyConfig):
    """What the configs of SAC and DDPG share besides their settings."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_envs_per_env_runner = 1
        self.set_defaults()

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """As for every off-policy algorithm; refuses other actions than bounded vectors.

        Raises:
            SpecError: With the space and the fix.
        """
        super().adapt_to(spaces)
        if spaces is not None and spaces.action_space is not None:
            check_actions(spaces.action_space, self.algorithm_name)

    def check_training(self) -> None:
        """Checks ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        self._check_auxiliary_step()

    def _check_auxiliary_step(self) -> None:
        for key, needed, why in _STEPS_NEEDED:
            asked = [name for name, own in self.auxiliary_losses.items() if _option(own, key)]
            if asked and self.auxiliary_step != needed:
                raise SpecError(
                    f"auxiliary.{asked[0]}.{key} needs training.auxiliary_step: {needed}, {why}; "
                    f"got {self.auxiliary_step!r}."
                )

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        if not self.normalize_actions:
            raise SpecError(
                f"{self.algorithm_name} acts in [-1, 1], which normalize_actions=True maps to the "
                "environment's bounds; leave it at that."
            )


def check_actions(space: gym.Space, algorithm: str) -> int:
    """The number of features of an action.

    Raises:
        SpecError: For anything but a bounded, floating Box of one dimension.
    """
    is_vector = len(space.shape or ()) == 1 and np.issubdtype(space.dtype, np.floating)
    if not isinstance(space, gym.spaces.Box) or not is_vector:
        fix = "Flatten them in a wrapper of the environment"
        if isinstance(space, gym.spaces.Discrete):
            fix = "Choose an algorithm for discrete actions (rainbow, ppo)"
        raise SpecError(
            f"algorithm '{algorithm}' needs continuous actions, a floating Box of one dimension; "
            f"got {space}. {fix}."
        )
    if not space.is_bounded():
        raise SpecError(
            f"algorithm '{algorithm}' needs actions with finite bounds, to which it scales its "
            f"own; got {space}. Give the Box bounds in a wrapper (gymnasium's RescaleAction)."
        )
    return int(space.shape[0])


def _option(options: Any, key: str) -> Any:
    """Of a loss, as a mapping or as its config; None where it is not given."""
    return options.get(key) if isinstance(options, Mapping) else getattr(options, key, None)
