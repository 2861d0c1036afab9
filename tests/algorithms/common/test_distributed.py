"""One and two Learners agree, and two stay identical, in real process groups (gloo)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from rlssl.algorithms.common.distributed import TorchPeers, average_gradients, broadcast_state
from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.normalization import DiscountedReturnScale
from rlssl.batches import take_rows
from rlssl.connectors.advantages import AddAdvantages
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from tests.algorithms.bench import Bench, small_ppo

# Several processes on a busy machine.
pytestmark = pytest.mark.timeout(300)

MODULE = "default_policy"
ROWS = 32

#: Name -> environment, losses, and further arguments of `.model()`.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "icm": ("CartPole-v1", {"icm": {}}, {}),
    "icm-shared": ("CartPole-v1", {"icm": {"features": "shared"}}, {}),
    "curl-vectors": ("CartPole-v1", {"curl": {}}, {}),
    "curl-images": ("minatar/Breakout", {"curl": {}}, {}),
    "curl-augmented": ("minatar/Breakout", {"curl": {}}, {"augmentation": {"shift": {"pad": 2}}}),
    "curl-shuffled": ("minatar/Breakout", {"curl": {"shuffled_positives": True}}, {}),
    "icm-and-curl": ("CartPole-v1", {"icm": {}, "curl": {"variant": "atari"}}, {}),
    "icm-normalized": ("CartPole-v1", {"icm": {}}, {"normalize_observations": True}),
    "icm-stream": ("CartPole-v1", {"icm": {"stream": "own", "intrinsic_coeff": 0.5}}, {}),
    "icm-recurrent": ("CartPole-v1", {"icm": {}}, {"lstm": {"hidden": 8, "sequence_length": 4}}),
}


def config_of(case: str) -> PPOConfig:
    env, losses, network = CASES[case]
    config = small_ppo(env).auxiliary(**losses)
    return config.model(encoder_config={"hidden": [16]} if env == "CartPole-v1" else {}, **network)


def update(bench: Bench, batch: dict[str, Any], rows: slice) -> None:
    """One update on some rows of a complete batch, which has advantages already."""
    kept = {key: value for key, value in batch.items() if isinstance(value, Tensor | dict)}
    bench.learner.take_step(take_rows(kept, rows))
    bench.learner.count_observations(take_rows(kept, rows))


def one_of_two(rank: int, folder: str) -> None:
    """A process that is one of two Learners, on half of each batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    for case in CASES:
        config = config_of(case)
        config.validate()
        config.num_learners = 2
        # The weights differ from the first Learner's until both connect.
        bench = Bench(config.debugging(seed=rank))
        for batch in torch.load(f"{folder}/{case}-batches.pt"):
            update(bench, batch, half)
        torch.save(bench.module.state_dict(), f"{folder}/{case}-{rank}.pt")
    torch.save(collectives(rank), f"{folder}/collectives-{rank}.pt")
    dist.destroy_process_group()


def collectives(rank: int) -> dict[str, Any]:
    """Results of the single functions, for parts of different sizes."""
    peers = TorchPeers()
    mine = torch.arange(3.0)[: 1 + rank] + 10 * rank  # [0] and [10, 11]
    layers = nn.Linear(2, 1)
    layers.weight.grad = torch.full((1, 2), 4.0) if rank else None
    average_gradients(layers.parameters())
    broadcast_state(layers)
    scale = DiscountedReturnScale(gamma=0.5)
    # An episode in two chunks; the first Learner has the second chunk.
    chunk = ChunkInfo("a", 1, 2, True) if rank == 0 else ChunkInfo("a", 2, 0, False)
    scale(torch.tensor([1.0]) if rank == 0 else torch.tensor([4.0, 2.0]), [chunk], peers)
    streams = AddAdvantages(gamma=0.0, lambda_=0.5, normalize=False, peers=peers)
    rewards = torch.tensor([3.0, 0.0] if rank == 0 else [4.0, 2.0, 0.0])
    mask = torch.tensor([True] * (2 - (rank == 0)) + [False])
    values = torch.full_like(rewards, 2.0)
    return {
        "rows": peers.rows(1 + rank),
        "gathered": peers.gather(mine),
        "none": peers.gather(torch.zeros(0, 2)),
        "mean": peers.mean(torch.tensor([1.0, 2.0]) * (rank + 1)),
        "objects": peers.gather_objects({"rank": rank}),
        "gradients": [layers.weight.grad, layers.bias.grad],
        "weights": layers.weight.detach(),
        "return_mean": scale.moments.mean,
        "stream": streams.continuing_advantages(rewards, values, mask, [chunk], gamma=0.5),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The states after the updates: of one Learner, and of two."""
    path = tmp_path_factory.mktemp("learners")
    for case in CASES:
        bench = Bench(config_of(case))
        batches = [bench.batch(bench.sample()) for _ in range(3)]
        batches = [take_rows(batch, slice(ROWS)) for batch in batches]
        for batch in batches:
            if SEQUENCE_BEGINS in batch:
                # Learners split whole sequences: a sequence begins at the second Learner's half.
                batch[SEQUENCE_BEGINS][ROWS // 2] = True
            update(bench, batch, slice(None))
        torch.save(batches, path / f"{case}-batches.pt")
        torch.save(bench.module.state_dict(), path / f"{case}-one.pt")
    torch.multiprocessing.spawn(one_of_two, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize("case", CASES)
def test_two_learners_on_half_each_give_the_weights_of_one_on_the_whole(
    folder: Path, case: str
) -> None:
    one, first, second = (torch.load(folder / f"{case}-{name}.pt") for name in ("one", "0", "1"))
    assert one.keys() == first.keys() == second.keys()
    for key, value in one.items():
        torch.testing.assert_close(first[key], value, rtol=0, atol=1e-5, msg=f"{case}: {key}")
        assert torch.equal(first[key], second[key]), key


def test_weights_moved_in_every_case(folder: Path) -> None:
    for case in CASES:
        before = Bench(config_of(case)).module.state_dict()
        after = torch.load(folder / f"{case}-one.pt")
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        assert {f"auxiliary.{name}" for name in CASES[case][1]} <= {
            ".".join(key.split(".")[:2]) for key in moved
        }
        assert any(key.startswith("encoder.") for key in moved)


def test_collectives_by_hand(folder: Path) -> None:
    results = [torch.load(folder / f"collectives-{rank}.pt") for rank in (0, 1)]
    assert [result["rows"] for result in results] == [(0, 3), (1, 3)]
    for result in results:
        assert result["gathered"].tolist() == [0.0, 10.0, 11.0]
        assert result["none"].shape == (0, 2)
        assert result["mean"].tolist() == [1.5, 3.0]
        assert result["objects"] == [{"rank": 0}, {"rank": 1}]
        # The first Learner lacks gradients: the mean is half of the second's. Both lack the bias's.
        assert result["gradients"][0].tolist() == [[2.0, 2.0]]
        assert result["gradients"][1].tolist() == [0.0]
        # Returns 4, 0.5 * 4 + 2 = 4, 0.5 * 4 + 1 = 3: mean 11 / 3.
        assert result["return_mean"].item() == pytest.approx(11 / 3)
    # All values are 2. The second Learner has the first steps. Deltas: 4 + 0.5 * 2 - 2 = 3,
    # 2 + 1 - 2 = 1, 3 + 1 - 2 = 2. Advantages: 3 + 0.25 * 1.5 = 3.375, 1 + 0.25 * 2 = 1.5, 2.
    assert results[0]["stream"].tolist() == [2.0, 0.0]
    assert results[1]["stream"].tolist() == [3.375, 1.5, 0.0]
    assert torch.equal(results[0]["weights"], results[1]["weights"])


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("variant", ["clip", "adaptive_kl"])
def test_a_run_with_two_learners_keeps_them_identical(variant: str) -> None:
    losses: dict[str, Any] = {"icm": {"variant": "burda"}, "curl": {}}
    config = small_ppo(variant=variant).auxiliary(**losses).learners(num_learners=2)
    algorithm = config.build_algo()
    try:
        results = [algorithm.train() for _ in range(3)]
        states = algorithm.learner_group.foreach_learner(
            lambda learner: learner.module[MODULE].unwrapped().state_dict()
        )
        first, second = (result.get() for result in states)
    finally:
        algorithm.stop()
        ray.shutdown()
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)
    # Each Learner has 64 rows per update; an episode may be longer than a fragment.
    assert results[-1]["agent_steps"] >= 3 * 2 * 64
    assert np.isfinite(results[-1]["intrinsic_return_mean"])
    assert {"curl", "icm"} <= results[-1]["aux"].keys()
    assert first["auxiliary.icm.normalizer.moments.count"] >= 3 * 2 * 64
