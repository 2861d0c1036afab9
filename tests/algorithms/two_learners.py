"""Two Learners (gloo) with halves of the batches that a single Learner has as a whole."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from tests.algorithms.rainbow.rainbow_bench import RainbowBench

ConfigOf = Callable[[str], Any]


def learn_alone_and_in_two(
    folder: Path, cases: Iterable[str], config_of: ConfigOf, bench_class: Any = RainbowBench
) -> None:
    """Three updates of each case by one Learner, then by two; see `results`.

    Args:
        folder: For what they give.
        cases: Names.
        config_of: From a name to an off-policy config; a function of a module.
        bench_class: Of the config's Learner and replay buffer.
    """
    cases = list(cases)
    for case in cases:
        with one_thread():
            _one(bench_class(config_of(case)), folder, case)
    given = (str(folder), cases, config_of, bench_class)
    torch.multiprocessing.spawn(_one_of_two, given, nprocs=2)


def learners_fixture(
    cases: Iterable[str], config_of: ConfigOf, bench_class: Any = RainbowBench
) -> Any:
    """A fixture: a folder with the results of one Learner and of two; see `results`."""

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("learners")
        learn_alone_and_in_two(path, cases, config_of, bench_class)
        return path

    return folder


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, as each of two Learners has: more threads would sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _one(bench: Any, folder: Path, case: str) -> None:
    episodes = bench.sample()
    torch.save(episodes, folder / f"{case}-episodes.pt")
    bench.add(episodes)
    batches = [bench.draw() for _ in range(3)]
    errors = [bench.learner.update_on(batch, agent_steps=64) for batch in batches]
    torch.save(batches, folder / f"{case}-batches.pt")
    torch.save({"state": bench.module.state_dict(), "errors": errors}, folder / f"{case}-one.pt")


def results(folder: Path, case: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Results of the single, first and second Learner: ``state`` of the module, ``errors``."""
    one, first, second = (
        torch.load(folder / f"{case}-{name}.pt", weights_only=False) for name in ("one", "0", "1")
    )
    return one, first, second


def assert_same_weights(folder: Path, case: str) -> None:
    """The weights of two Learners are identical, and equal those of one within 1e-5."""
    one, first, second = (given["state"] for given in results(folder, case))
    for key, value in one.items():
        torch.testing.assert_close(first[key], value, rtol=0, atol=1e-5, msg=key)
        assert torch.equal(first[key], second[key]), key


def assert_same_errors(folder: Path, case: str) -> None:
    """The errors of each Learner's rows, in order, are those of one Learner within 1e-4."""
    one, first, second = (given["errors"] for given in results(folder, case))
    for whole, left, right in zip(one, first, second, strict=True):
        assert len(left) == len(right) == 16
        np.testing.assert_allclose(np.concatenate([left, right]), whole, atol=1e-4)


def _one_of_two(
    rank: int, folder: str, cases: list[str], config_of: ConfigOf, bench_class: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for case in cases:
        config = config_of(case)
        config.validate()
        config.num_learners = 2
        bench = bench_class(config.debugging(seed=rank))
        errors = []
        if config.gives_intrinsic_rewards:
            # Running statistics see all rows: each Learner gets every second chunk.
            episodes = torch.load(f"{folder}/{case}-episodes.pt", weights_only=False)
            bench.learner.intrinsic_rewards(episodes[rank::2])
        for batch in torch.load(f"{folder}/{case}-batches.pt", weights_only=False):
            errors.append(bench.learner.update_on_part(batch, agent_steps=64))
        result = {"state": bench.module.state_dict(), "errors": errors}
        torch.save(result, f"{folder}/{case}-{rank}.pt")
    dist.destroy_process_group()
