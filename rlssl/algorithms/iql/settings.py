"""IQL's training settings: the only place of their defaults."""

import dataclasses

from rlssl.algorithms.common.settings import ByInput, setting
from rlssl.algorithms.off_policy import settings as shared
from rlssl.algorithms.off_policy.actor_critic.settings import (
    NUM_CRITICS,
    OffPolicyActorCriticSettings,
)
from rlssl.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class IQLSettings(OffPolicyActorCriticSettings):
    """IQL's settings, those of the paper; images have the networks of CURL (``ByInput``)."""

    lr: Schedule = setting(3e-4, shared.LR, can_change=True)
    num_critics: int = setting(2, NUM_CRITICS, low=1, is_for_networks=True)
    actor_update_every_updates: int = setting(
        1,
        "Updates of the critics between two updates of the actor and of the state values.",
        low=1,
        can_change=True,
    )
    target_update_every_updates: int = setting(1, shared.TARGET_UPDATE, above=0, can_change=True)
    tau: float = setting(
        0.005,
        "Step size of the target critics: they move by this share towards the online critics at "
        "each change; in (0, 1].",
        above=0,
        high=1,
        is_for_networks=True,
        can_change=True,
    )
    encoder_tau: float | None = setting(
        None,
        "As ``tau``, for the target encoder; None: ``tau``.",
        above=0,
        high=1,
        is_for_networks=True,
        can_change=True,
    )
    random_agent_steps: int = setting(
        0,
        "Agent steps from the start of the run with uniformly random actions.",
        low=0,
        is_for_networks=True,
    )
    value_hidden: list[int] = setting(
        ByInput([256], [1024, 1024]),
        "Features of the hidden layers of the state values, after their encoder.",
        is_for_networks=True,
    )
    expectile: float = setting(
        0.7,
        "Expectile of the target critics' values that the state values learn; in (0, 1). 0.5 is "
        "the mean. The paper's AntMaze: 0.9.",
        above=0,
        high=1,
        can_change=True,
    )
    inverse_temperature: float = setting(
        3.0,
        "The paper's beta: an action's weight is the exponential of this times its advantage, per "
        "unit of the return; 0: behavior cloning. The paper's AntMaze: 10.",
        low=0,
        can_change=True,
    )
    max_weight: float = setting(100.0, "Largest weight of an action.", above=0, can_change=True)
    log_std_bounds: list[float] = setting(
        [-5.0, 2.0],
        "Smallest and largest logarithm of the standard deviation of continuous actions, nats.",
        is_for_networks=True,
    )
