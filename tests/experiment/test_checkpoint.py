"""Checkpoints that prove themselves."""

import json
from pathlib import Path

import pytest

from rlssl.errors import SpecError
from rlssl.experiment import checkpoint


def write_checkpoint(folder: Path, env_steps: int) -> Path:
    (folder / "algorithm").mkdir(parents=True)
    (folder / "algorithm" / "state").write_bytes(b"weights" * env_steps)
    files = {"algorithm/state": checkpoint._checksum(folder / "algorithm" / "state")}
    manifest = {"env_steps": env_steps, "files": files}
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_newest_is_the_one_with_the_most_env_steps(tmp_path: Path) -> None:
    # A run that went back to a checkpoint may write a higher number for fewer env steps.
    write_checkpoint(tmp_path / "checkpoint_000004", 500)
    write_checkpoint(tmp_path / "checkpoint_000003", 900)
    found = checkpoint.newest_valid(tmp_path)
    assert found is not None
    assert (found.path.name, found.env_steps) == ("checkpoint_000003", 900)


def test_truncated_checkpoint_is_skipped_for_the_one_before(
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
    [("algorithm/state", "lacks algorithm/state"), (checkpoint.MANIFEST, "no readable")],
)
def test_missing_file_is_named(tmp_path: Path, lost: str, message: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint_000000", 100)
    (folder / lost).unlink()
    with pytest.raises(SpecError, match=message):
        checkpoint.check(folder)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(tmp_path) is None
