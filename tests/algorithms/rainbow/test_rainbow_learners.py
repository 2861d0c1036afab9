"""Two Learners on half of every batch give the weights of one on the whole, in gloo's groups."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

#: Name -> environment, losses, and training.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rainbow": ("CartPole-v1", {}, {}),
    "soft": ("CartPole-v1", {}, {"target_tau": 0.1}),
    "plain": ("CartPole-v1", {}, {"distributional": False, "noisy": False}),
    "icm": ("CartPole-v1", {"icm": {}}, {}),
    "curl": ("CartPole-v1", {"curl": {}}, {}),
    "images": ("minatar/Breakout", {"curl": {}}, {}),
}


def config_of(case: str) -> RainbowConfig:
    env, losses, training = CASES[case]
    config = small_rainbow(env, **{"target_update_every_updates": 2, **training})
    hidden = {"encoder_config": {"hidden": [16]} if env == "CartPole-v1" else {}}
    return config.auxiliary(**losses).model(**hidden)


def one_of_two(rank: int, folder: str) -> None:
    """A process that is one of two Learners."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for case in CASES:
        config = config_of(case)
        config.validate()
        config.num_learners = 2
        bench = RainbowBench(config.debugging(seed=rank))
        errors = []
        for batch in torch.load(f"{folder}/{case}-batches.pt", weights_only=False):
            errors.append(bench.learner.update_on_part(batch, agent_steps=64))
        result = {"state": bench.module.state_dict(), "errors": errors}
        torch.save(result, f"{folder}/{case}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one Learner gave, and two."""
    path = tmp_path_factory.mktemp("learners")
    for case in CASES:
        bench = RainbowBench(config_of(case))
        bench.add(bench.sample())
        batches = [bench.draw() for _ in range(3)]
        errors = [bench.learner.update_on(batch, agent_steps=64) for batch in batches]
        torch.save(batches, path / f"{case}-batches.pt")
        torch.save({"state": bench.module.state_dict(), "errors": errors}, path / f"{case}-one.pt")
    torch.multiprocessing.spawn(one_of_two, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize("case", CASES)
def test_weights_and_td_errors_are_those_of_one(folder: Path, case: str) -> None:
    one, first, second = (
        torch.load(folder / f"{case}-{name}.pt", weights_only=False) for name in ("one", "0", "1")
    )
    for key, value in one["state"].items():
        torch.testing.assert_close(first["state"][key], value, rtol=0, atol=1e-5, msg=key)
        assert torch.equal(first["state"][key], second["state"][key]), key
    for whole, left, right in zip(one["errors"], first["errors"], second["errors"], strict=True):
        assert len(left) == len(right) == 16
        np.testing.assert_allclose(np.concatenate([left, right]), whole, atol=1e-4)
