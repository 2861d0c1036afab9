"""Learners of pretraining: restored ones go on bit for bit, and two equal one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.algorithms.pretrain.pretrain_bench import PretrainBench, small_pretrain

#: A queue, a key encoder of the loss's own, generators of views, a window, noise.
LOSSES: dict[str, Any] = {
    "moco": {"queue_size": 70},
    "curl": {},
    "spr": {},
    "autoencoder": {"variant": "vae", "hidden": 16},
    "rnd": {"update_share": 0.5},
}


def bench_of(folder: Path, losses: dict[str, Any], **options: Any) -> PretrainBench:
    return PretrainBench(small_pretrain(folder, losses, **options))


@pytest.mark.parametrize("tau", [None, 0.1], ids=["no target", "target"])
@pytest.mark.parametrize("spaces", ["vectors", "hwc"])
def test_restored_learner_goes_on_bit_for_bit(
    tmp_path: Path, spaces: str, tau: float | None
) -> None:
    options = {"spaces": spaces, "frame_stack": 2, "target_tau": tau, "lr": [[0, 1e-3], [9, 0.0]]}
    first = bench_of(tmp_path / "data", LOSSES, **options)
    first.update(3)
    saved = {"learner": first.learner.get_state(), "replays": first.replays.get_state()}
    torch.save(saved, tmp_path / "state.pt")
    first.update(3)
    second = bench_of(tmp_path / "data", LOSSES, **options)
    second.update(1)  # so that its queues, noise and draws are elsewhere
    saved = torch.load(tmp_path / "state.pt", weights_only=False)
    second.learner.set_state(saved["learner"])
    second.replays.set_state(saved["replays"])
    second.env_steps = 3
    second.update(3)
    expected, found = first.state(), second.state()
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert any("queue" in key for key in expected)
    assert any(key.startswith("target") for key in expected) == (tau is not None)
