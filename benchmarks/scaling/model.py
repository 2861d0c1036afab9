"""The model of docs/scaling.md: env steps a second from constants that are measured once.

Runners sample, the Learner updates, and the driver receives, stores and sends. By default the
Learner is in the driver's process, so their times add up. "Env step" here is an agent step: with
frame skip, multiply.
"""

import math
from dataclasses import dataclass
from typing import Literal

Part = Literal["runners", "driver and Learner"]


@dataclass(frozen=True)
class Constants:
    """Seconds and bytes of one algorithm on one machine."""

    # A runner's time for a vector step without its environment: policy and records.
    vector_step_s: float
    # A runner's time for a fragment besides: metrics, request and reply.
    fragment_s: float
    # Processor time of a runner for a request; the environment and the policy excluded.
    call_s: float
    # The driver's time to receive a fragment and to add up its metrics.
    receive_s: float
    # The driver's time to request a fragment.
    request_s: float
    # The driver's time to store an agent step in the replay buffer; 0 without one.
    store_s: float
    # The driver's time to read the weights, and to send them to one runner.
    weights_s: float
    send_s: float
    # The Learner's time for an update: of a replayed batch, or of PPO on a whole batch of steps.
    update_s: float
    # Serialized bytes: of a fragment without steps, of an agent step, of the weights.
    fragment_bytes: float
    step_bytes: float
    weights_bytes: float


@dataclass(frozen=True)
class Setup:
    """What a user sets."""

    runners: int
    # Copies of the environment in a runner, and seconds of a vector step of them.
    copies: int
    wait_s: float
    # Vector steps of a fragment.
    steps: int
    # Updates for one agent step; PPO: 1 / batch.
    updates_per_step: float
    overlaps: bool


@dataclass(frozen=True)
class Prediction:
    """What the model says about a setup."""

    env_steps_per_s: float
    # What the other part waits for.
    limit: Part
    bytes_per_env_step: float
    calls_per_env_step: float


def predict(constants: Constants, setup: Setup, *, cores: int | None = None) -> Prediction:
    """The speed of rounds: sample, store, update, send weights.

    Args:
        constants: Of the algorithm.
        setup: Of the run.
        cores: Cores that runners and driver share; None: each process has a core.

    Example:
        Two runners of 10 ms a step, with updates of 8 ms: 8 steps take 40 ms, 8 updates 64 ms.

        >>> parts = dict.fromkeys(Constants.__dataclass_fields__, 0.0)
        >>> constants = Constants(**{**parts, "update_s": 0.008})
        >>> setup = Setup(2, copies=1, wait_s=0.01, steps=4, updates_per_step=1.0, overlaps=True)
        >>> predict(constants, setup).env_steps_per_s, predict(constants, setup).limit
        (125.0, 'driver and Learner')
    """
    runners, per_round = setup.runners, setup.runners * setup.copies * setup.steps
    sample_s = setup.steps * (setup.wait_s + constants.vector_step_s) + constants.fragment_s
    # Between the last reply of a round and the next request, runners wait for the driver.
    turn_s = runners * (constants.receive_s + constants.request_s)
    learn_s = per_round * setup.updates_per_step * constants.update_s
    store_s = per_round * constants.store_s
    weights_s = constants.weights_s + runners * constants.send_s
    driver_s = turn_s + store_s + learn_s + weights_s
    sampling_s = sample_s + turn_s
    round_s = max(sampling_s, driver_s) if setup.overlaps else sample_s + driver_s
    if cores is not None:
        round_s = max(round_s, (driver_s + runners * constants.call_s) / cores)
    moved = runners * (constants.fragment_bytes + constants.weights_bytes)
    return Prediction(
        env_steps_per_s=per_round / round_s,
        limit="runners" if sampling_s > driver_s else "driver and Learner",
        bytes_per_env_step=constants.step_bytes + moved / per_round,
        calls_per_env_step=2 * runners / per_round,
    )


def useful_runners(constants: Constants, setup: Setup, most: int = 1024) -> int:
    """The number of runners from which on the driver and the Learner are the limit."""
    for runners in range(1, most + 1):
        changed = Setup(**{**vars(setup), "runners": runners, "overlaps": True})
        if predict(constants, changed).limit == "driver and Learner":
            return runners
    return most


def predict_a3c(
    *, workers: int, gradient_s: float, driver_s: float, call_s: float, cores: int | None = None
) -> float:
    """Gradients a second that A3C applies.

    Args:
        workers: Number of workers.
        gradient_s: A worker's time for a gradient: sampling and computing.
        driver_s: The driver's time for a gradient.
        call_s: Processor time of a worker for a request.
        cores: Cores that workers and driver share; None: each process has a core.

    Example:
        >>> round(predict_a3c(workers=32, gradient_s=2.0, driver_s=0.001, call_s=0.0), 2)
        15.99
    """
    shared = math.inf if cores is None else cores / (driver_s + call_s)
    return min(workers / (gradient_s + driver_s), 1 / driver_s, shared)
