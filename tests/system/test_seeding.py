"""Streams of random numbers: all different, all repeatable, far from evaluation's seeds."""

import itertools

import numpy as np
import pytest

from rlssl.system.random_state import OwnGenerators, generators
from rlssl.system.seeding import (
    PROCESS_RESTART,
    RESTORED_RUN,
    ROLES,
    SamplerSeeds,
    integer,
    restart_after_restore,
    sampler_index,
    seed_globals,
    stream,
)


def test_every_address_has_its_own_stream() -> None:
    restarts = (0, 1, PROCESS_RESTART, RESTORED_RUN)
    addresses = itertools.product(range(3), ROLES, range(3), range(3), restarts, (False, True))
    drawn = {
        integer(stream(run, role, sampler=sampler, copy=copy, restart=restart, evaluation=eval_))
        for run, role, sampler, copy, restart, eval_ in addresses
    }
    # 3 runs x roles x 3 samplers x 3 copies x 4 restarts, in training and in evaluation.
    assert len(drawn) == 3 * len(ROLES) * 3 * 3 * 4 * 2


def test_seeds_of_environments_fit_31_bits_and_are_never_evaluations() -> None:
    seeds = [
        SamplerSeeds(run, sampler).environment(copy, restart=0)
        for run in range(4)
        for sampler in range(16)
        for copy in range(64)
    ]
    # Evaluation episode k has seed k. A native vector environment adds up to 2**16 copies.
    assert all(seed is not None and 2**30 <= seed < 2**31 - 2**16 for seed in seeds)
    assert len(set(seeds)) == 4 * 16 * 64


def test_a_run_without_a_seed_seeds_no_environment() -> None:
    assert SamplerSeeds(None).environments(3, restart=0) is None


@pytest.mark.parametrize(
    "worker_index, num_remote, expected",
    [(0, 0, 0), (None, 0, 0), (1, 1, 0), (1, 4, 0), (4, 4, 3), (0, 4, 4)],
)
def test_the_first_that_samples_is_sampler_0(
    worker_index: int | None, num_remote: int, expected: int
) -> None:
    assert sampler_index(worker_index, num_remote) == expected


def test_a_restored_run_never_has_a_count_of_restarts_of_the_run_before() -> None:
    assert restart_after_restore(0) > 3 * PROCESS_RESTART + 17
    assert restart_after_restore(restart_after_restore(5)) > restart_after_restore(5)


def draws() -> list[float]:
    import random

    import torch

    return [random.random(), float(np.random.randn()), float(torch.rand(()))]


def test_own_generators_neither_disturb_nor_are_disturbed() -> None:
    seed_globals(np.random.SeedSequence(1))
    expected = [draws() for _ in range(4)]
    seed_globals(np.random.SeedSequence(2))
    others = [draws() for _ in range(4)]

    own = OwnGenerators(np.random.SeedSequence(1))
    seed_globals(np.random.SeedSequence(2))
    for step in range(4):
        with own.in_place(), own.in_place():
            actual = draws()
        # numpy's second normal number of a pair is not kept between two uses of own generators.
        assert [actual[0], actual[2]] == [expected[step][0], expected[step][2]]
        again = draws()
        assert [again[0], again[2]] == [others[step][0], others[step][2]]


def test_own_generators_continue_from_their_saved_state() -> None:
    own, other = (OwnGenerators(np.random.SeedSequence(seed)) for seed in (1, 2))
    with own.in_place():
        draws()
    state = own.get()
    with own.in_place():
        expected = draws()
    other.set(state)
    with other.in_place():
        assert draws() == expected


def test_an_error_inside_puts_the_generators_back() -> None:
    before = generators()["python"]
    own = OwnGenerators(np.random.SeedSequence(1))
    with pytest.raises(ZeroDivisionError), own.in_place():
        draws()
        _ = 1 / 0
    assert generators()["python"] == before
