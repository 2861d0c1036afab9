"""Runs whose disk fills up, or whose state of Tune is lost, come to their end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.command_line import rlssl
from tests.experiment.faults.run_processes import (
    COMMAND,
    kill_driver,
    runs,
    small_disk,
    state_files,
    wait_until_unchanged,
)

__all__ = ["runs"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("how", ["gone", "empty", "truncated"])
def test_run_without_tunes_state_equals_the_uninterrupted_run(
    runs: Any, tmp_path: Path, how: str
) -> None:
    killed = runs("killed", *COMMAND)
    killed.wait_for_checkpoints(2)
    kill_driver(killed)
    folders = [path for path in killed.folder.iterdir() if path.is_dir()]
    assert state_files(killed.folder)
    for path in state_files(killed.folder):
        if how == "gone":
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"")
    _, errors = rlssl("resume", str(killed.folder), cwd=tmp_path)
    assert "state in" in errors and "is damaged or lost: tuner.pkl" in errors
    assert "Traceback" not in errors
    # The trial went on in its own folder, from its own checkpoint.
    assert [path for path in killed.folder.iterdir() if path.is_dir()] == folders
    (started_at,) = {row["env_steps_at_start"] for row in killed.results()} - {0}
    assert started_at >= 2000
    whole = runs("whole", *COMMAND)
    whole.finish()
    episodes = [(run.trial() / "episodes.csv").read_text() for run in (killed, whole)]
    assert episodes[0] == episodes[1]
    # Once more: it has finished, and stays so.
    printed, _ = rlssl("resume", str(killed.folder), cwd=tmp_path)
    assert "has finished" in printed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "results") as path:
        yield path


def test_run_outlives_a_full_disk(runs: Any, disk: Path) -> None:
    often = ["--set", "report_every_s=0"]
    run = runs("full", *COMMAND, "--stop", "env_steps=40000", *often)
    run.wait_for_checkpoints(1)
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2**25)
    # The run goes on; its files show it only when there is space again.
    wait_until_unchanged(run.trial() / "result.json")
    full_at = run.results()[-1]["env_steps"]
    assert run.process.poll() is None
    filler.unlink()
    _, errors = run.finish()
    assert "No space left on device" in errors and "All is written to" in errors
    assert "Traceback" not in errors
    steps = [row["env_steps"] for row in run.results()]
    assert steps == sorted(set(steps)) and steps[-1] >= 40000 > full_at
    assert {row["env_steps_at_start"] for row in run.results()} == {0}
