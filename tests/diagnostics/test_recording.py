"""Which steps of evaluation episodes are kept."""

import numpy as np
import pytest
import torch

from rlssl.diagnostics.recording import StepRecorder


def recorded(recorder: StepRecorder, seed: int, num_steps: int) -> None:
    for step in range(num_steps):
        if recorder.wants(seed, step):
            seen = {"x": torch.full((1, 2), float(step)), "y": torch.zeros(1, 1)}
            recorder.add(seed, seen, np.array([0.5]), reward=float(step))


@pytest.mark.parametrize("num_steps", [1, 9, 10, 11, 40, 41, 1000])
def test_kept_steps_are_evenly_spread_and_bounded(num_steps: int) -> None:
    recorder = StepRecorder(num_episodes=2, num_rows=20)
    recorded(recorder, 0, num_steps)
    steps = recorder.rows().rewards
    assert len(steps) <= 10 and len(steps) >= min(num_steps, 5)
    assert steps[0] == 0 and len(set(np.diff(steps))) <= 1
    # The last kept step is near the end.
    stride = steps[1] - steps[0] if len(steps) > 1 else 1
    assert num_steps - steps[-1] <= stride


def test_rows_are_in_the_order_of_the_seeds() -> None:
    recorder = StepRecorder(num_episodes=3, num_rows=12)
    for seed in (2, 0, 1):
        recorded(recorder, seed, 2)
    rows = recorder.rows()
    assert rows.episodes.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.observations["x"].shape == (6, 2) and rows.actions.shape == (6, 1)


def test_more_episodes_than_rows_leave_the_last_ones_out() -> None:
    recorder = StepRecorder(num_episodes=50, num_rows=6)
    for seed in range(50):
        recorded(recorder, seed, 9)
    assert set(recorder.rows().episodes) == {0, 1, 2} and len(recorder.rows().rewards) <= 6


def test_kept_observations_are_copies() -> None:
    recorder, seen = StepRecorder(1), torch.zeros(1, 3)
    recorder.add(0, seen, 1, 0.0)
    seen.fill_(7.0)
    assert recorder.rows().observations.tolist() == [[0.0, 0.0, 0.0]]
    assert np.issubdtype(recorder.rows().actions.dtype, np.integer)
