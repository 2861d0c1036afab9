"""PPO's training settings: the only place of their defaults."""

import dataclasses
from typing import Literal

from rlssl.algorithms.common.settings import ByInput, TrainingSettings, setting
from rlssl.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class PPOSettings(TrainingSettings):
    """PPO's settings. Images have the defaults of published Atari baselines (``ByInput``)."""

    variant: Literal["clip", "adaptive_kl", "both"] = setting(
        "clip", "The surrogate: ``clip`` (the paper's eq. 7), ``adaptive_kl`` (eq. 8) or ``both``."
    )
    lr: Schedule = setting(ByInput(1e-3, 2.5e-4), "Learning rate of Adam; > 0.", can_change=True)
    adam_epsilon: float = setting(
        1e-5, "Adam's epsilon; > 0. Published baselines use 1e-5.", above=0, can_change=True
    )
    gamma: float = setting(
        0.99, "Discount per agent step; in [0, 1].", low=0, high=1, can_change=True
    )
    lambda_: float = setting(0.95, "GAE's lambda; in [0, 1].", low=0, high=1, can_change=True)
    train_batch_size_per_learner: int = setting(
        1024, "Agent steps between two updates, over all environments.", above=0
    )
    minibatch_size: int = setting(
        ByInput(128, 256),
        "Agent steps of a gradient step. If this number does not divide the batch, minibatches are "
        "equal parts of about this size.",
        above=0,
        can_change=True,
    )
    num_epochs: int = setting(ByInput(10, 4), "Passes over the batch.", above=0, can_change=True)
    clip_param: float = setting(
        ByInput(0.2, 0.1),
        "Largest rewarded change of the probability ratio; > 0.",
        above=0,
        can_change=True,
    )
    kl_coeff: float = setting(
        1.0, "Initial coefficient of the KL penalty.", above=0, is_for_networks=True
    )
    kl_target: float = setting(0.01, "Target KL of an update, nats.", above=0, can_change=True)
    vf_loss_coeff: float = setting(0.5, "Weight of ``0.5 (V - R)^2``.", low=0, can_change=True)
    entropy_coeff: Schedule = setting(
        ByInput(0.0, 0.01), "Weight of the entropy bonus, per nat.", can_change=True
    )
    normalize_advantages: bool = setting(
        True,
        "Whether advantages of a batch get zero mean and a standard deviation of 1.",
        can_change=True,
    )
    grad_clip: float | None = setting(
        0.5, "Largest global gradient norm; None: no clipping.", above=0, can_change=True
    )
    overlap_sampling: bool = setting(
        False,
        "Whether remote EnvRunners sample the next batch during an update. They then use weights "
        "that are one update old; the surrogate corrects for it, as it does for later epochs. "
        "Metric: ``diff_num_grad_updates_vs_sampler_policy``.",
    )
