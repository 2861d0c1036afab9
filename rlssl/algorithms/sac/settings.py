"""SAC's training settings: the only place of their defaults."""

import dataclasses
from typing import Literal

from rlssl.algorithms.common.settings import ByInput, setting
from rlssl.algorithms.off_policy.actor_critic.settings import (
    NUM_CRITICS,
    OffPolicyActorCriticSettings,
)
from rlssl.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class SACSettings(OffPolicyActorCriticSettings):
    """SAC's settings. Images have the defaults of CURL and SAC-AE (``ByInput``)."""

    num_critics: int = setting(2, NUM_CRITICS, low=1, is_for_networks=True)
    initial_alpha: float = setting(
        ByInput(1.0, 0.1),
        "Initial temperature; > 0, units of the return per nat.",
        above=0,
        is_for_networks=True,
    )
    learn_alpha: bool = setting(
        True, "Whether the temperature is learned (so that the entropy meets its target)."
    )
    alpha_lr: Schedule | None = setting(
        None, "Learning rate of the temperature's logarithm; None: ``lr``.", can_change=True
    )
    alpha_beta1: float = setting(
        0.9, "beta1 of the temperature's Adam; in [0, 1).", can_change=True
    )
    target_entropy: float | None = setting(
        None, "Target entropy, nats; None: minus the number of action dimensions.", can_change=True
    )
    log_std_bounds: list[float] = setting(
        ByInput([-20.0, 2.0], [-10.0, 2.0]),
        "Smallest and largest logarithm of the standard deviation before the tanh, nats.",
        is_for_networks=True,
    )
    log_std_mode: Literal["clamp", "tanh"] = setting(
        ByInput("clamp", "tanh"),
        "How the logarithm is kept within its bounds: ``clamp``, or rescaled by a ``tanh``.",
        is_for_networks=True,
    )
