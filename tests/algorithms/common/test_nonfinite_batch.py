"""A batch whose gradient was not finite is saved for inspection."""

from pathlib import Path

import numpy as np
import torch

from rlssl.algorithms.common.nonfinite_batch import nonfinite_columns, save_batch

BATCH = {
    "obs": torch.tensor([[0, 255], [7, 9]], dtype=torch.uint8),
    "rewards": torch.tensor([1.0, float("nan")]),
    "latent": torch.tensor([0.5, -2.0], dtype=torch.bfloat16, requires_grad=True),
    "nested": {"position": np.array([[1.5], [np.inf]])},
    "actions": (np.array([0, 1]), np.array([True, False])),
    "infos": [{"name": "text"}],
}


def test_saved_batch_loads_unchanged_without_pickle(tmp_path: Path) -> None:
    path = save_batch(BATCH, tmp_path / "trial")
    assert path.is_absolute() and path.parent == (tmp_path / "trial").resolve()
    with np.load(path, allow_pickle=False) as saved:
        assert sorted(saved) == [
            "actions/0",
            "actions/1",
            "latent",
            "nested/position",
            "obs",
            "rewards",
        ]
        assert saved["obs"].dtype == np.uint8 and saved["obs"].tolist() == [[0, 255], [7, 9]]
        np.testing.assert_array_equal(saved["rewards"], [1.0, np.nan])
        assert saved["latent"].tolist() == [0.5, -2.0]
        assert saved["actions/1"].tolist() == [True, False]


def test_columns_that_are_not_finite_are_named() -> None:
    assert nonfinite_columns(BATCH) == ["rewards", "nested/position"]


def test_no_partial_file_is_left(tmp_path: Path) -> None:
    save_batch(BATCH, tmp_path)
    save_batch(BATCH, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
