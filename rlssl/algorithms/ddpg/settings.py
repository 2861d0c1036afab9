"""DDPG's training settings: the only place of their defaults.

Actions are in [-1, 1]. Noise is added on this scale.
"""

import dataclasses
from typing import Literal

from rlssl.algorithms.common.settings import setting
from rlssl.algorithms.off_policy.actor_critic.settings import (
    NUM_CRITICS,
    OffPolicyActorCriticSettings,
)
from rlssl.schedules import Schedule

#: ``exploration`` -> the default of ``exploration_std``: a standard deviation, or a factor on the
#: Ornstein-Uhlenbeck process.
EXPLORATION_STD = {"gaussian": 0.1, "ornstein_uhlenbeck": 1.0}


@dataclasses.dataclass(frozen=True)
class DDPGSettings(OffPolicyActorCriticSettings):
    """One critic and Gaussian noise; TD3 and DrQ-v2 are presets."""

    num_critics: int = setting(1, NUM_CRITICS, low=1, is_for_networks=True)
    final_bound: float | None = setting(
        None,
        "Initial weights of the last layers of actor and critics are uniform in +- this bound; "
        "None: as in the other layers.",
        above=0,
        is_for_networks=True,
    )
    target_actor: bool = setting(
        True,
        "Whether targets use a target actor. False: targets use the online actor.",
        is_for_networks=True,
    )
    exploration: Literal["gaussian", "ornstein_uhlenbeck"] = setting(
        "gaussian",
        "``gaussian`` noise on actions, or an ``ornstein_uhlenbeck`` process.",
        is_for_networks=True,
    )
    exploration_std: Schedule | None = setting(
        None,
        "Standard deviation of Gaussian noise, or a factor on an Ornstein-Uhlenbeck process; >= 0; "
        "a schedule over env steps. None: ``exploration_std_by_agent_steps``; without it "
        f"{EXPLORATION_STD['gaussian']}, or the factor {EXPLORATION_STD['ornstein_uhlenbeck']}.",
        is_for_networks=True,
        can_change=True,
    )
    exploration_std_by_agent_steps: Schedule | None = setting(
        None,
        "As ``exploration_std``, but the points are [agent_steps, value], as in DrQ-v2's code. An "
        "agent step is ``action_repeat`` env steps. ``exploration_std``, if set, replaces it.",
    )
    exploration_clip: float | None = setting(
        None,
        "Noise is clipped to +- this value in each dimension; > 0; None: no limit.",
        above=0,
        is_for_networks=True,
        can_change=True,
    )
    random_action_share: float = setting(
        0.0,
        "Probability that an exploring action is drawn uniformly from [-1, 1] instead; in [0, 1].",
        low=0,
        high=1,
        is_for_networks=True,
        can_change=True,
    )
    ou_theta: float = setting(
        0.15,
        "Rate at which an Ornstein-Uhlenbeck process returns to 0; in (0, 2 / ou_dt).",
        is_for_networks=True,
    )
    ou_sigma: float = setting(
        0.2,
        "Standard deviation of the process's steps per unit of time; >= 0.",
        low=0,
        is_for_networks=True,
    )
    ou_dt: float = setting(1.0, "Time between two agent steps; > 0.", above=0, is_for_networks=True)
    target_noise_std: Schedule | None = setting(
        0.0,
        "Standard deviation of the noise on target actions, a schedule over env steps; 0: no "
        "noise. None: ``exploration_std``.",
        can_change=True,
    )
    target_noise_clip: float = setting(
        0.5, "Noise on target actions is clipped to +- this value; > 0.", above=0, can_change=True
    )
    actor_noise: bool = setting(
        False, "Whether actions in the actor's loss get the same noise as target actions."
    )
    actor_critics: Literal["first", "min"] = setting(
        "first", "Whether the actor maximizes the ``first`` critic, or the ``min`` of all critics."
    )
    saturation_penalty: float = setting(
        0.0,
        "Weight of a penalty in the actor's loss: the mean square of actions before the tanh. It "
        "keeps actions away from their bounds, where gradients vanish. Units of the return; >= 0.",
        low=0,
        can_change=True,
    )
    action_l2: float = setting(
        0.0,
        "Weight of a penalty in the actor's loss: the mean square of its actions, without noise. "
        "Units of the return; >= 0; 1 in the published code of hindsight experience replay.",
        low=0,
        can_change=True,
    )
    target_min: float | None = setting(
        None,
        "Targets of the critics below this value are raised to it. If every reward is -1 or 0, no "
        "return is below -1 / (1 - gamma). None: no bound.",
        can_change=True,
    )
    target_max: float | None = setting(
        None,
        "Targets of the critics above this value are lowered to it; > ``target_min``. None: no "
        "bound.",
        can_change=True,
    )
