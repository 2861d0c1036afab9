"""`rlssl data label`: actions that a trained inverse model predicts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlssl.data import DatasetWriter, Episode, EpisodeDataset
from tests.auxiliary.imitation.recorded import record
from tests.experiment.command_line import rlssl

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(600)]

SMALL = ("--set", "training={train_batch_size_per_learner: 256, num_epochs: 10}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, and demonstrations with and without actions."""
    path = tmp_path_factory.mktemp("label")
    train = ("train", "ppo", "CartPole-v1", "--stop", "env_steps=2048", *SMALL)
    rlssl(*train, "--aux", "inverse_dynamics:coeff=10", "--name", "inverse", cwd=path)
    rlssl(*train, "--name", "plain", cwd=path)
    experts: list[Any] = ["expert/cartpole"] * 2
    record(path / "demos", {"id": "CartPole-v1"}, experts, most=200)
    given = EpisodeDataset(path / "demos")
    notes = {"collect": {"split": "train"}, "played": {"episodes": 2}, "lab": 1}
    bare = dataclasses.replace(given.description, action_space=None, notes=notes)
    with DatasetWriter(path / "videos", bare) as writer:
        for one in given:
            writer.add(Episode(one.observations, None, one.rewards, one.terminated, one.truncated))
    record(path / "swing", {"id": "Pendulum-v1"}, [None], most=5)
    return path


def test_labels_replace_actions_and_their_agreement_is_told(folder: Path) -> None:
    words = ["data", "label", "demos", "--by", "inverse", "--to", "with", "--json"]
    out, _ = rlssl(*words, cwd=folder)
    figures = json.loads(out)
    assert (figures["episodes"], figures["steps"]) == (2, 400)
    assert 0.5 < figures["accuracy"] <= 1.0
    out, _ = rlssl(*["data", "label", "videos", "--by", "inverse", "--to", "without"], cwd=folder)
    assert "2 episodes with 400 labeled steps in without." in out and "accuracy" not in out
    demos, first, second = (EpisodeDataset(folder / name) for name in ("demos", "with", "without"))
    for true, one, other in zip(demos, first, second, strict=True):
        assert np.array_equal(one.actions, other.actions)
        assert np.array_equal(true.observations, other.observations)
        assert set(np.unique(one.actions)) <= {0, 1}
    assert second.description.action_space == demos.description.action_space
    # Without the notes of a recording, which `rlssl collect` would continue.
    assert second.description.notes == {"actions": "labels of inverse", "lab": 1}


def test_nothing_is_left_of_labels_of_a_damaged_data_set(folder: Path) -> None:
    given = EpisodeDataset(folder / "videos")
    with DatasetWriter(folder / "damaged", given.description, rows_per_shard=1) as writer:
        for one in given:
            writer.add(one)
    (folder / "damaged" / "episodes-00001.parquet").unlink()
    words = ["data", "label", "damaged", "--by", "inverse", "--to", "half"]
    _, errors = rlssl(*words, cwd=folder, code=3)
    assert "is missing. Restore it from a copy" in errors
    assert not (folder / "half").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ("videos --by plain --to x", "plain has no loss inverse_dynamics"),
        ("videos --by nobody --to x", "no run 'nobody'"),
        ("nothing --by inverse --to x", "nothing is no data set"),
        ("swing --by inverse --to x", "has observations Box"),
        ("videos --by inverse --to demos", "demos already has a data set"),
    ],
)
def test_what_cannot_be_labeled_is_refused(folder: Path, words: str, message: str) -> None:
    _, errors = rlssl("data", "label", *words.split(), cwd=folder, code=2)
    assert message in errors and "Traceback" not in errors
    assert not (folder / "x").exists()
