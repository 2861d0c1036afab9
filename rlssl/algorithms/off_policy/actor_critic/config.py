"""The base of the configs of SAC and DDPG."""

from collections.abc import Mapping
from typing import Any, ClassVar

from rlssl.algorithms.common.action_spaces import ActionKind
from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.errors import SpecError

#: Options of losses, the `auxiliary_step` that each needs, and the reason.
_STEPS_NEEDED = (
    ("double_encoder_step", "separate", "in which the encoder has its own step for the loss"),
    ("isolated", "joint", "in which one step can leave out the RL loss's gradient"),
)


class OffPolicyActorCriticConfig(OffPolicyConfig):
    """Configures off-policy actor-critic algorithms, which need bounded continuous actions."""

    actions: ClassVar[ActionKind] = "continuous"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.num_envs_per_env_runner = 1
        self.set_defaults()

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


def _option(options: Any, key: str) -> Any:
    """An option of a loss, whose options are a mapping or a config; None if it is not set."""
    return options.get(key) if isinstance(options, Mapping) else getattr(options, key, None)
