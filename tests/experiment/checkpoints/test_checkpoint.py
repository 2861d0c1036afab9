"""Checkpoints are verified, written atomically, and chosen by env steps."""

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.train._internal.storage import StorageContext

from rlssl.errors import SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.run_files import MANIFEST
from rlssl.system.files import checksum


def write_checkpoint(folder: Path, env_steps: int) -> Path:
    (folder / "algorithm").mkdir(parents=True)
    (folder / "algorithm" / "state").write_bytes(b"weights" * env_steps)
    files = {"algorithm/state": checksum(folder / "algorithm" / "state")}
    manifest = {"env_steps": env_steps, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_newest_checkpoint_has_the_most_env_steps(tmp_path: Path) -> None:
    # A run that went back to a checkpoint may give fewer env steps a higher checkpoint number.
    write_checkpoint(tmp_path / "checkpoint_000004", 500)
    write_checkpoint(tmp_path / "checkpoint_000003", 900)
    found = checkpoint.newest_valid(tmp_path)
    assert found is not None
    assert (found.path.name, found.env_steps) == ("checkpoint_000003", 900)


def test_truncated_checkpoint_is_skipped_for_an_older_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path / "checkpoint_000000", 100)
    newest = write_checkpoint(tmp_path / "checkpoint_000001", 200)
    (newest / "algorithm" / "state").write_bytes(b"wei")
    found = checkpoint.newest_valid(tmp_path)
    assert found is not None and found.env_steps == 100
    assert "algorithm/state is truncated or changed" in caplog.text


@pytest.mark.parametrize(
    "lost, message",
    [("algorithm/state", "has no file algorithm/state"), (MANIFEST, "no readable")],
)
def test_missing_file_is_named(tmp_path: Path, lost: str, message: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint_000000", 100)
    (folder / lost).unlink()
    with pytest.raises(SpecError, match=message):
        checkpoint.check(folder)


def test_trial_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(tmp_path) is None


def test_manifest_without_its_keys_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint_000000", 100)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(SpecError, match="no readable"):
        checkpoint.check(folder)


def test_only_invalid_checkpoints_are_an_error_that_names_the_fix(tmp_path: Path) -> None:
    assert checkpoint.newest_or_none_yet(tmp_path) is None
    folder = write_checkpoint(tmp_path / "checkpoint_000000", 100)
    (folder / "algorithm" / "state").write_bytes(b"")
    with pytest.raises(SpecError, match=r"no valid checkpoint left; delete its checkpoint_\*"):
        checkpoint.newest_or_none_yet(tmp_path)


def publish_repeatedly(source: Path, trial: Path) -> None:
    for number in range(10_000):
        checkpoint.publish(source, trial / f"checkpoint_{number % 3:06d}")


def test_kill_while_writing_leaves_no_incomplete_checkpoint(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "written", 200_000)
    trial = tmp_path / "trial"
    trial.mkdir()
    were_caught_writing = 0
    for attempt in range(12):
        # Forked, because a new interpreter takes longer to start than the writing takes.
        writer = multiprocessing.get_context("fork").Process(
            target=publish_repeatedly, args=(source, trial)
        )
        writer.start()
        # A busy machine may take long to write the first checkpoint.
        deadline = time.monotonic() + 30
        while not list(trial.glob("checkpoint_*")) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.1 + 0.003 * attempt)
        writer.kill()
        writer.join()
        were_caught_writing += bool(list(trial.glob(".checkpoint_*.writing")))
        finished = list(trial.glob("checkpoint_*"))
        assert finished and all(
            checkpoint.check(folder).env_steps == 200_000 for folder in finished
        )
        checkpoint.remove_unfinished(trial)
        assert {path.name[:10] for path in trial.iterdir()} == {"checkpoint"}
    assert were_caught_writing


def test_published_checkpoint_replaces_the_old_folder_entirely(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "checkpoint_000000", 100)
    (target / "left_over").touch()
    checkpoint.publish(write_checkpoint(tmp_path / "written", 300), target)
    assert checkpoint.check(target).env_steps == 300
    assert sorted(path.name for path in target.iterdir()) == ["algorithm", MANIFEST]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_000000", "written"]


def test_the_newest_checkpoints_stay_whatever_their_numbers(tmp_path: Path) -> None:
    # After a resume, numbers may begin again below those of older checkpoints.
    for number, env_steps in enumerate([900, 100, 300, 200]):
        write_checkpoint(tmp_path / f"checkpoint_{number:06}", env_steps)
    damaged = write_checkpoint(tmp_path / "checkpoint_000009", 1000)
    (damaged / MANIFEST).write_text("{")
    checkpoint.prune(tmp_path, keep=2)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["checkpoint_000000", "checkpoint_000002"]


class Small(tune.Trainable):
    """Saves one checkpoint, as a trial does."""

    def _setup_logdir(self) -> None:
        """Does nothing: Tune's method needs a running Ray."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        write_checkpoint(Path(checkpoint_dir), 100)


def test_tune_still_copies_through_this_method(tmp_path: Path) -> None:
    storage: Any = StorageContext(str(tmp_path), "experiment", trial_dir_name="trial")
    trial = Path(storage.trial_fs_path)
    checkpoint.publish_through(storage, keep=2)
    # Tune's own copy into an existing folder would keep this file.
    (trial / "checkpoint_000000").mkdir(parents=True)
    (trial / "checkpoint_000000" / "left_over").touch()
    saved = Small(storage=storage).save()
    assert saved.checkpoint.path == str(trial / "checkpoint_000000")
    assert not (trial / "checkpoint_000000" / "left_over").exists()
    found = checkpoint.newest_valid(trial)
    assert found is not None and found.env_steps == 100
