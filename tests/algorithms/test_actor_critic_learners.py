"""Two Learners on half of every batch give the weights of one on the whole, in gloo's groups."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from tests.algorithms.actor_critic_bench import (
    CROPPED,
    ActorCriticBench,
    on_pixels,
    small_ddpg,
    small_sac,
)

# Above what is left of gradients that cancel: Adam would divide rounding errors.
_SEPARATE = {"auxiliary_step": "separate", "adam_epsilon": 1e-4}

#: Name -> config without losses, and losses.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sac": (lambda: small_sac(), {}),
    "sac-icm": (lambda: small_sac(), {"icm": {}}),
    "td3": (lambda: small_ddpg(num_critics=2, target_noise_std=0.2), {}),
    "crops": (
        lambda: on_pixels(small_sac("test/dot", **_SEPARATE), augmentation=CROPPED),
        {"curl": {}},
    ),
}


def config_of(case: str) -> Any:
    make, losses = CASES[case]
    return make().auxiliary(**losses)


def one_of_two(rank: int, folder: str) -> None:
    """A process that is one of two Learners."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for case in CASES:
        config = config_of(case)
        config.validate()
        config.num_learners = 2
        bench = ActorCriticBench(config.debugging(seed=rank))
        for batch in torch.load(f"{folder}/{case}-batches.pt", weights_only=False):
            bench.learner.update_on_part(batch, agent_steps=64)
        torch.save(bench.module.state_dict(), f"{folder}/{case}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one Learner gave, and two."""
    path = tmp_path_factory.mktemp("learners")
    for case in CASES:
        bench = ActorCriticBench(config_of(case))
        bench.add(bench.sample())
        batches = [bench.draw() for _ in range(3)]
        for batch in batches:
            bench.learner.update_on(batch, agent_steps=64)
        torch.save(batches, path / f"{case}-batches.pt")
        torch.save(bench.module.state_dict(), path / f"{case}-one.pt")
    torch.multiprocessing.spawn(one_of_two, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_one(folder: Path, case: str) -> None:
    one, first, second = (
        torch.load(folder / f"{case}-{name}.pt", weights_only=False) for name in ("one", "0", "1")
    )
    for key, value in one.items():
        torch.testing.assert_close(first[key], value, rtol=0, atol=1e-5, msg=key)
        assert torch.equal(first[key], second[key]), key
