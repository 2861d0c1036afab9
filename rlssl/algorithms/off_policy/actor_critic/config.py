"""The base of the configs of SAC and DDPG."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.environments.preflight import EnvSpaces
from rlssl.errors import SpecError
from rlssl.networks.action_encoding import scaled_elements

#: Options of losses, the `auxiliary_step` that each needs, and the reason.
_STEPS_NEEDED = (
    ("double_encoder_step", "separate", "in which the encoder has its own step for the loss"),
    ("isolated", "joint", "in which one step can leave out the RL loss's gradient"),
)


class OffPolicyActorCriticConfig(OffPolicyConfig):
    """Configures off-policy actor-critic algorithms, which need bounded continuous actions."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_envs_per_env_runner = 1
        self.set_defaults()

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """Adapts as every off-policy config, and checks that actions are bounded vectors.

        Raises:
            SpecError: If not, with the space and the fix.
        """
        super().adapt_to(spaces)
        if spaces is not None and spaces.action_space is not None:
            check_actions(spaces.action_space, self.algorithm_name)

    def effective_training(self, action_space: Any = None) -> dict[str, Any]:
        """As in the base class, with the settings that follow ``lr`` and ``tau``."""
        used = super().effective_training(action_space)
        followed = {"actor_lr": "lr", "encoder_tau": "tau"}
        return used | {name: used[o] for name, o in followed.items() if used[name] is None}

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        self._check_auxiliary_step()

    def _check_auxiliary_step(self) -> None:
        for key, needed, why in _STEPS_NEEDED:
            users = [name for name, loss in self.auxiliary_losses.items() if _option(loss, key)]
            if users and self.auxiliary_step != needed:
                raise SpecError(
                    f"auxiliary.{users[0]}.{key} needs training.auxiliary_step: {needed}, {why}; "
                    f"got {self.auxiliary_step!r}."
                )

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        if not self.normalize_actions:
            raise SpecError(
                f"{self.algorithm_name} acts in [-1, 1], and normalize_actions=True maps actions "
                "to the environment's bounds; set normalize_actions=True."
            )


def check_actions(space: gym.Space, algorithm: str) -> int:
    """The number of dimensions of an action.

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
    if not scaled_elements(space).all():
        raise SpecError(
            f"algorithm '{algorithm}' needs actions with finite bounds, because it scales actions "
            f"to them; got {space}. Set the bounds in a wrapper (gymnasium's RescaleAction)."
        )
    return int(space.shape[0])


def _option(options: Any, key: str) -> Any:
    """An option of a loss, whose options are a mapping or a config; None if it is not set."""
    return options.get(key) if isinstance(options, Mapping) else getattr(options, key, None)
