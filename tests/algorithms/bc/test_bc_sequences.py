"""Behavior cloning with an LSTM: windows of steps, against a slow loop."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.bc.metrics import NLL
from rlssl.algorithms.bc.sequences import draw_windows, rows_of_windows
from rlssl.batches import to_tensors
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.data import DatasetWriter, Description, Episode
from tests.algorithms.bc.bc_bench import BCBench, random_data, small_bc

LENGTH, BURN_IN = 6, 2
VECTORS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
MODEL = {
    "encoder_config": {"hidden": [16]},
    "lstm": {"hidden": 5, "sequence_length": LENGTH},
}


def recurrent_bench(folder: Path, **losses: Any) -> BCBench:
    data = random_data(folder, VECTORS, gym.spaces.Discrete(4))
    config = small_bc(data, model=MODEL, burn_in=BURN_IN, train_batch_size_per_learner=32)
    return BCBench(config.auxiliary(**losses))


def windows_of(bench: BCBench) -> dict[str, Any]:
    return draw_windows(bench.replays.main, 32, length=LENGTH, needs=bench.learner.needs)


def slow_nll(module: Any, windows: Any) -> list[float]:
    """Each row's negative log-likelihood, from torch's LSTM, one step at a time."""
    found = []
    for obs, actions, valid in zip(
        windows[Columns.OBS], windows[Columns.ACTIONS], windows["valid"], strict=True
    ):
        begins_inside = not valid[0]
        hidden = cell = torch.zeros(1, 1, 5)
        for place in range(LENGTH):
            if not valid[place]:
                continue
            latent = module.encoder(obs[place : place + 1])
            output, (hidden, cell) = module.lstm.cells(latent[:, None], (hidden, cell))
            logp = module.pi(output[:, 0]).log_softmax(dim=1)[0, actions[place]]
            if begins_inside or place >= BURN_IN:
                found.append(-float(logp))
    return found


def test_loss_equals_a_loop_over_single_steps(tmp_path: Path) -> None:
    bench = recurrent_bench(tmp_path)
    windows = windows_of(bench)
    assert windows["valid"].shape == (6, LENGTH)
    assert not windows["valid"].all() and windows["valid"].all(axis=1).any()
    with torch.no_grad():
        expected = slow_nll(bench.module, to_tensors(windows, torch.device("cpu")))
    found = bench.learner.measure(windows)
    assert found["rows"] == len(expected)
    assert found[NLL] == pytest.approx(sum(expected), rel=1e-5)
    bench.learner.update_on(windows, agent_steps=0)
    mean = float(bench.learner.latest_metrics[(NLL,)])
    assert mean == pytest.approx(np.mean(expected), rel=1e-5)


def test_rows_begin_where_the_episode_or_the_window_begins() -> None:
    valid = torch.tensor([[True] * 4, [False, False, True, True], [False, False, False, True]])
    numbers = torch.arange(12).view(3, 4)
    windows = {Columns.OBS: {"x": numbers}, Columns.ACTIONS: numbers, "valid": valid}
    rows = rows_of_windows(windows, burn_in=2, hidden=3)
    assert rows[Columns.OBS]["x"].tolist() == [0, 1, 2, 3, 6, 7, 11]
    assert rows[SEQUENCE_BEGINS].tolist() == [True, False, False, False, True, False, True]
    assert rows[Columns.LOSS_MASK].tolist() == [False, False, True, True, True, True, True]
    assert rows[Columns.STATE_IN]["hidden"].shape == (7, 3)


def test_auxiliary_losses_read_separate_steps(tmp_path: Path) -> None:
    bench = recurrent_bench(tmp_path, inverse_dynamics={}, cpc={})
    windows = windows_of(bench)
    assert len(windows["auxiliary"][Columns.OBS]) == 32
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    bench.learner.update_on(windows, agent_steps=0)
    after = bench.module.state_dict()
    moved = {key.split(".")[0] for key, value in before.items() if not value.equal(after[key])}
    assert {"encoder", "lstm", "pi", "auxiliary"} <= moved
    assert ("aux", "cpc", "coeff") in bench.learner.latest_metrics


def test_memory_is_cloned(tmp_path: Path) -> None:
    """The demonstrated action at the last of four steps is the first observation's sign."""
    actions: gym.Space = gym.spaces.Discrete(2)
    with DatasetWriter(tmp_path, Description(VECTORS, actions)) as writer:
        for number in range(40):
            observations = np.zeros((5, 3), np.float32)
            observations[0, 0] = 1.0 if number % 2 else -1.0
            observations[3, 1] = 1.0
            labels = np.array([0, 0, 0, number % 2])
            writer.add(Episode(observations, labels, np.zeros(4), terminated=True))
    bench = BCBench(small_bc(tmp_path, model=MODEL, lr=1e-2))
    for update in range(150):
        bench.learner.update_on(windows_of(bench), agent_steps=update)
    found = bench.learner.measure(windows_of(bench))
    assert found["accuracy"] == found["rows"]
