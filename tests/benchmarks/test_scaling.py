from dataclasses import replace

import pytest

from benchmarks.scaling.model import Constants, Setup, predict, predict_a3c, useful_runners

CONSTANTS = Constants(
    vector_step_s=0.001,
    fragment_s=0.004,
    call_s=0.002,
    receive_s=0.0005,
    request_s=0.0005,
    store_s=0.0001,
    weights_s=0.003,
    send_s=0.0005,
    update_s=0.008,
    fragment_bytes=2000.0,
    step_bytes=100.0,
    weights_bytes=6000.0,
)
#: 4 runners of 2 copies, fragments of 5 vector steps of 9 ms: 40 agent steps a round.
SETUP = Setup(4, copies=2, wait_s=0.009, steps=5, updates_per_step=0.25, overlaps=True)
# Runners: 5 * (9 + 1) + 4 = 54 ms. Receiving and requesting: 4 * 1 = 4 ms.
# The driver: 4 + 40 * 0.1 + 40 / 4 * 8 + (3 + 4 * 0.5) = 4 + 4 + 80 + 5 = 93 ms.


def test_overlap_takes_the_time_of_the_slower_part() -> None:
    there = predict(CONSTANTS, SETUP)
    assert there.env_steps_per_s == pytest.approx(40 / 0.093)
    assert there.limit == "driver and Learner"
    # Updates of 2 ms: 33 ms, less than 54 + 4.
    fast = predict(replace(CONSTANTS, update_s=0.002), SETUP)
    assert fast.env_steps_per_s == pytest.approx(40 / 0.058)
    assert fast.limit == "runners"


def test_one_after_the_other_takes_the_sum() -> None:
    in_turn = predict(CONSTANTS, replace(SETUP, overlaps=False))
    assert in_turn.env_steps_per_s == pytest.approx(40 / (0.054 + 0.093))


def test_shared_cores_bound_the_speed() -> None:
    # (93 + 4 * 2) ms of processors on one core.
    shared = predict(CONSTANTS, SETUP, cores=1)
    assert shared.env_steps_per_s == pytest.approx(40 / 0.101)


def test_bytes_and_calls_are_shared_by_the_steps_of_a_fragment() -> None:
    there = predict(CONSTANTS, SETUP)
    # 10 agent steps a fragment: 100 + (2000 + 6000) / 10 bytes, 2 calls.
    assert there.bytes_per_env_step == pytest.approx(900)
    assert there.calls_per_env_step == pytest.approx(0.2)


def test_useful_runners_are_those_whose_steps_the_learner_keeps_up_with() -> None:
    # 54 ms = N * (10 * (0.1 + 0.25 * 8) + 0.5) ms + 3 ms: N = 51 / 21.5 = 2.4.
    assert useful_runners(CONSTANTS, SETUP) == 3


def gradients_per_s(workers: int, cores: int | None = None) -> float:
    return predict_a3c(workers=workers, gradient_s=0.1, driver_s=0.002, call_s=0.001, cores=cores)


def test_a3c_is_limited_by_its_workers_or_by_its_driver() -> None:
    assert gradients_per_s(10) == pytest.approx(10 / 0.102)
    assert gradients_per_s(100) == pytest.approx(1 / 0.002)
    # The work of driver and worker on one core.
    assert gradients_per_s(100, cores=1) == pytest.approx(1 / 0.003)
