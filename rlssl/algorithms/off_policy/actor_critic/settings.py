"""Training settings that SAC and DDPG share."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from rlssl.algorithms.common.settings import ByInput, setting
from rlssl.algorithms.off_policy import settings as shared
from rlssl.schedules import Schedule

NUM_CRITICS = "Number of critics; targets use the smallest of their values; >= 1."


@dataclasses.dataclass(frozen=True)
class OffPolicyActorCriticSettings(shared.OffPolicySettings):
    """What SAC and DDPG share. Images have the networks of CURL and SAC-AE (``ByInput``)."""

    n_step: int = setting(1, shared.N_STEP, above=0, can_change=True)
    lr: Schedule = setting(ByInput(1e-3, 5e-4), shared.LR, can_change=True)
    actor_lr: Schedule | None = setting(
        None, "The actor's learning rate; None: ``lr``.", can_change=True
    )
    adam_epsilon: float = setting(1e-8, shared.ADAM_EPSILON, above=0, can_change=True)
    critic_weight_decay: float = setting(
        0.0, "L2 penalty in the Adam of the critics and the encoder; >= 0.", low=0, can_change=True
    )
    train_batch_size_per_learner: int = setting(
        ByInput(256, 128), shared.BATCH_SIZE, above=0, can_change=True
    )
    grad_clip: float | None = setting(None, shared.GRAD_CLIP, above=0, can_change=True)
    critic_hidden: list[int] = setting(
        ByInput([256], [1024, 1024]),
        "Features of the critics' hidden layers after the encoder.",
        is_for_networks=True,
    )
    actor_hidden: list[int] = setting(
        ByInput([256], [1024, 1024]),
        "Features of the actor's hidden layers after its encoder.",
        is_for_networks=True,
    )
    network_init: Literal["fan_in", "orthogonal"] = setting(
        "fan_in",
        "Initial weights after the encoders: ``fan_in`` (torch's) or ``orthogonal`` (SAC-AE's).",
        is_for_networks=True,
    )
    tau: float = setting(
        ByInput(0.005, 0.01),
        "Step size of the target critics: they move by this share towards the online critics at "
        "each change; in (0, 1].",
        above=0,
        high=1,
        is_for_networks=True,
        can_change=True,
    )
    encoder_tau: float | None = setting(
        ByInput(None, 0.05),
        "As ``tau``, for the target encoder; None: ``tau``.",
        above=0,
        high=1,
        is_for_networks=True,
        can_change=True,
    )
    target_encoder: bool = setting(
        True,
        "Whether the target critics read a target encoder (for images: target convolutions), or "
        "the online encoder.",
        is_for_networks=True,
    )
    actor_update_every_updates: int = setting(
        ByInput(1, 2),
        "Updates of the critics between two updates of the actor.",
        low=1,
        can_change=True,
    )
    target_update_every_updates: int = setting(
        ByInput(1, 2), shared.TARGET_UPDATE, above=0, can_change=True
    )
    random_agent_steps: int = setting(
        1_000,
        "Agent steps from the start of the run with uniformly random actions.",
        low=0,
        is_for_networks=True,
    )
    reuse_features: bool = setting(
        False,
        "Whether the actor's step reuses the features from before the critics' step, as in "
        "DrQ-v2. False: the features are computed again.",
    )
    auxiliary_step: Literal["joint", "separate"] = setting(
        "joint",
        "``joint``: auxiliary losses are added to the critics' loss. ``separate``: auxiliary "
        "losses have their own step at the end of an update, as in CURL's code.",
    )
    replay: Mapping[str, Any] = setting({"prioritized": False}, shared.REPLAY)
    learning_starts_agent_steps: int = setting(1_000, shared.LEARNING_STARTS, low=0)
    updates_per_agent_step: float = setting(1.0, shared.UPDATES_PER_AGENT_STEP, low=0)
    agent_steps_per_iteration: int = setting(
        ByInput(1_000, 50), shared.AGENT_STEPS_PER_ITERATION, above=0
    )
