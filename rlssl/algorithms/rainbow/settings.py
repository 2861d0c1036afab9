"""Rainbow's training settings: the only place of their defaults."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from rlssl.algorithms.common.settings import ByInput, setting
from rlssl.algorithms.off_policy import settings as shared
from rlssl.schedules import Schedule

#: ``epsilon`` where it is None, with noisy layers. On CartPole noisy layers explore too little, so
#: some random actions are added at first.
EPSILON_WITH_NOISE = ByInput([[0, 1.0], [5_000, 0.01]], 0.0)
#: The same without noisy layers.
EPSILON_WITHOUT_NOISE = ByInput([[0, 1.0], [10_000, 0.05]], [[0, 1.0], [1_000_000, 0.01]])


@dataclasses.dataclass(frozen=True)
class RainbowSettings(shared.OffPolicySettings):
    """Rainbow's settings. Defaults differ for vectors and for images (``ByInput``).

    Images: as published for Atari, with a replay buffer that fits most nodes.
    """

    double: bool = setting(
        True,
        "Whether the online network chooses the next action, which the target network evaluates. "
        "False: the target network does both.",
        is_for_networks=True,
    )
    dueling: bool = setting(
        True, "Whether the head has separate value and advantage streams.", is_for_networks=True
    )
    distributional: bool = setting(
        True,
        "True: distributions of returns are learned (C51). False: their means (DQN).",
        is_for_networks=True,
    )
    noisy: bool = setting(True, "Whether the head's layers are noisy.", is_for_networks=True)
    n_step: int = setting(3, shared.N_STEP, above=0, can_change=True)
    lr: Schedule = setting(ByInput(5e-4, 6.25e-5), shared.LR, can_change=True)
    adam_epsilon: float = setting(
        ByInput(1e-5, 1.5e-4), shared.ADAM_EPSILON, above=0, can_change=True
    )
    train_batch_size_per_learner: int = setting(
        ByInput(128, 32), shared.BATCH_SIZE, above=0, can_change=True
    )
    grad_clip: float | None = setting(10.0, shared.GRAD_CLIP, above=0, can_change=True)
    td_loss: Literal["huber", "mse"] = setting(
        "huber",
        "Without ``distributional``: ``huber`` (delta 1) or ``mse`` (half the squared error).",
    )
    priority: Literal["kl", "cross_entropy"] = setting(
        "kl",
        "With ``distributional``: ``kl``, the KL divergence from the target (the paper), or "
        "``cross_entropy``, which adds the target's entropy (published codes).",
    )
    num_atoms: int = setting(
        ByInput(101, 51), "Atoms of a distribution; >= 2.", low=2, is_for_networks=True
    )
    v_min: float | None = setting(
        ByInput(None, -10.0), "Return of the first atom; None: ``-reward_bound / (1 - gamma)``."
    )
    v_max: float | None = setting(
        ByInput(None, 10.0), "Return of the last atom; None: ``reward_bound / (1 - gamma)``."
    )
    reward_bound: float = setting(
        1.0, "Largest typical absolute reward; > 0; sets ``v_min`` and ``v_max``.", above=0
    )
    head_hidden: list[int] = setting(
        ByInput([128], [512]), "Features of the hidden layers of each stream.", is_for_networks=True
    )
    sigma0: float = setting(
        ByInput(0.1, 0.5), "Initial noise of noisy layers; >= 0.", low=0, is_for_networks=True
    )
    noise: Literal["factorized", "independent"] = setting(
        "factorized",
        "Noise of noisy layers: ``factorized`` or ``independent``.",
        is_for_networks=True,
    )
    bias_sigma_fan: Literal["in", "out"] = setting(
        "in",
        "Whether the initial noise of biases is scaled by the layer's inputs or its outputs.",
        is_for_networks=True,
    )
    noise_redraw: Literal["step", "episode"] = setting(
        "step",
        "New noise for acting: at every ``step``, for all environments of a runner; or in every "
        "``episode``, for each environment separately.",
        is_for_networks=True,
    )
    exploration: Literal["epsilon_greedy", "boltzmann"] = setting(
        "epsilon_greedy",
        "How actions are drawn from the values: ``epsilon_greedy`` or ``boltzmann``.",
        is_for_networks=True,
    )
    epsilon: Schedule | None = setting(
        None,
        "Share of random actions, a schedule over env steps. None: with noisy layers "
        f"{EPSILON_WITH_NOISE.vectors} on vectors and {EPSILON_WITH_NOISE.frames} on frames; "
        f"without noisy layers {EPSILON_WITHOUT_NOISE.vectors} on vectors and "
        f"{EPSILON_WITHOUT_NOISE.frames} on frames.",
        can_change=True,
    )
    # The two defaults of epsilon; users set epsilon itself.
    epsilon_with_noise: Schedule = setting(
        EPSILON_WITH_NOISE, "``epsilon`` with noisy layers.", is_argument=False
    )
    epsilon_without_noise: Schedule = setting(
        EPSILON_WITHOUT_NOISE, "``epsilon`` without noisy layers.", is_argument=False
    )
    temperature: Schedule = setting(
        1.0,
        "Temperature of ``boltzmann``; > 0, units of the return.",
        is_for_networks=True,
        can_change=True,
    )
    eval_epsilon: float = setting(
        0.0, "Share of random actions in evaluation.", low=0, high=1, is_for_networks=True
    )
    replay: Mapping[str, Any] = setting({}, shared.REPLAY)
    learning_starts_agent_steps: int = setting(
        ByInput(1_000, 20_000), shared.LEARNING_STARTS, low=0
    )
    updates_per_agent_step: float = setting(0.25, shared.UPDATES_PER_AGENT_STEP, low=0)
    target_update_every_updates: int = setting(
        ByInput(100, 2_000), shared.TARGET_UPDATE, above=0, is_for_networks=True, can_change=True
    )
    target_tau: float | None = setting(
        None,
        "Share by which the target network moves towards the online network after every update. "
        "None: it is copied every ``target_update_every_updates``.",
        above=0,
        high=1,
        is_for_networks=True,
        can_change=True,
    )
    auxiliary_in_priorities: bool = setting(
        False,
        "Whether the auxiliary loss is a part of each transition's loss: it gets the importance "
        "weights and is added to the priorities.",
    )
    agent_steps_per_iteration: int = setting(
        ByInput(1_000, 250), shared.AGENT_STEPS_PER_ITERATION, above=0
    )
