"""A3C's training settings: the only place of their defaults."""

import dataclasses
from typing import Literal

from rlssl.algorithms.common.settings import ByInput, TrainingSettings, setting
from rlssl.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class A3CSettings(TrainingSettings):
    """Gradients are means over a fragment, or sums as in the paper (``gradient_reduction``)."""

    synchronous: bool = setting(
        False,
        "True (A2C): one step with the mean gradient of all workers. False (A3C): each gradient "
        "is applied when it arrives.",
    )
    lr: Schedule = setting(
        ByInput(3e-3, 7e-4),
        "Learning rate; > 0. [[0, 7e-4], [N, 0]] anneals it over N env steps.",
        can_change=True,
    )
    optimizer: Literal["rmsprop", "adam"] = setting(
        "rmsprop", "``rmsprop``, as in the original, or ``adam``."
    )
    optimizer_state: Literal["shared", "per_worker"] = setting(
        "shared",
        "``shared``: one set of optimizer statistics for all workers. ``per_worker``: a separate "
        "set for each worker.",
    )
    gradient_reduction: Literal["mean", "sum"] = setting(
        "mean",
        "Whether a gradient is the ``mean`` over the agent steps of a fragment (of all "
        "environments of a worker), or the ``sum`` as in the original. ``grad_clip`` and "
        "``optimizer_epsilon`` apply to the result.",
    )
    optimizer_epsilon: float = setting(
        1e-5,
        "The epsilon inside RMSProp's root, or Adam's epsilon; > 0. The original uses 0.1 for "
        "gradients that are summed over a fragment (``gradient_reduction: sum``).",
        above=0,
        can_change=True,
    )
    rmsprop_alpha: float = setting(
        0.99,
        "Share of RMSProp's mean square that is kept in a step; in [0, 1).",
        low=0,
        high=1,
        can_change=True,
    )
    max_staleness: int | None = setting(
        None,
        "Largest number of updates between a worker's pull of the weights and the use of its "
        "gradient. Older gradients are dropped and counted. None: no limit.",
        low=0,
    )
    gamma: float = setting(
        0.99, "Discount per agent step; in [0, 1].", low=0, high=1, can_change=True
    )
    lambda_: float = setting(
        1.0,
        "GAE's lambda; in [0, 1]. 1: n-step returns up to the end of the fragment, as in the "
        "original.",
        low=0,
        high=1,
        can_change=True,
    )
    vf_loss_coeff: float = setting(0.5, "Weight of ``0.5 (V - R)^2``.", low=0, can_change=True)
    entropy_coeff: Schedule = setting(
        ByInput(0.0, 0.01), "Weight of the entropy bonus, per nat.", can_change=True
    )
    entropy_coeff_per_worker: list | None = setting(
        None,
        "One coefficient or schedule for each worker. More workers than entries start again from "
        "the first entry. None: ``entropy_coeff`` for all workers.",
    )
    normalize_advantages: bool = setting(
        False,
        "Whether advantages of a fragment get zero mean and a standard deviation of 1.",
        can_change=True,
    )
    grad_clip: float | None = setting(
        0.5, "Largest global gradient norm; None: no clipping.", above=0, can_change=True
    )
    worker_timeout_s: float = setting(
        120.0,
        "Seconds that a worker may take for a fragment; then it is killed and restarted.",
        above=0,
    )
    agent_steps_per_iteration: int = setting(
        4_000,
        "Agent steps of an iteration. The first fragment that reaches this number ends the "
        "iteration.",
        above=0,
    )
