"""The driver outlives a full disk: what could not be written is written later, in order."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import Callback

from rlssl.experiment.tuning import patient_files
from rlssl.experiment.tuning.patient_files import PatientFiles
from rlssl.experiment.tuning.trainable import CHECKPOINT_ERROR
from rlssl.system.files import append, replace
from tests.experiment.faults.run_processes import mount, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    with small_disk(tmp_path / "disk", "1m") as path:
        yield path


class Writer(Callback):
    """Writes a line a result, and counts the calls."""

    def __init__(self, folder: Path) -> None:
        self.path, self.num_calls = folder / "lines.txt", 0

    def on_trial_result(self, result: dict[str, Any], **_: Any) -> None:
        self.num_calls += 1
        append(self.path, f"{result['env_steps']} {result.get('episodes', [])}\n".encode())


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_files, "RETRY_S", 0.0)


def trial_in(folder: Path) -> Any:
    storage = SimpleNamespace(trial_fs_path=str(folder / "trial"))
    return SimpleNamespace(trial_id="t1", storage=storage)


def report(callback: Callback, trial: Any, env_steps: int, **more: Any) -> dict[str, Any]:
    result = {"env_steps": env_steps, "episodes": [env_steps], **more}
    callback.on_trial_result(iteration=1, trials=[trial], trial=trial, result=result)
    return result


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2**21)
    # The rest of the last page of a file that exists may still take a line.
    return filler


def test_results_wait_for_space_and_are_written_in_order(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Writer(tmp_path), Writer(disk)
    callback, trial = PatientFiles([first, second]), trial_in(disk / "run")
    filler = fill(disk)
    for env_steps in range(5):
        assert "episodes" not in report(callback, trial, env_steps)
    callback.on_step_end(iteration=1, trials=[trial])
    printed = capsys.readouterr().err
    assert printed.count("Cannot write to") == 1
    assert f"{disk / 'run' / 'trial'}: No space left on device, 0 MB free." in printed
    filler.unlink()
    callback.on_step_end(iteration=1, trials=[trial])
    expected = "".join(f"{env_steps} [{env_steps}]\n" for env_steps in range(5))
    assert second.path.read_text() == first.path.read_text() == expected
    assert first.num_calls == 5  # a callback that succeeded is not called again
    assert "All is written to" in capsys.readouterr().err


def test_read_only_disk_ends_nothing(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = Writer(disk)
    callback, trial = PatientFiles([writer]), trial_in(disk / "run")
    assert mount(disk, "-o", "remount,ro")
    report(callback, trial, 1)
    callback.on_experiment_end(trials=[trial])
    printed = capsys.readouterr().err
    assert "Read-only file system" in printed
    assert f"rlssl resume {disk / 'run'}" in printed
    assert mount(disk, "-o", "remount,rw")
    callback.on_step_end(iteration=1, trials=[trial])
    assert writer.path.read_text() == "1 [1]\n"


def test_many_waiting_results_are_thinned_and_keep_their_episodes(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_files, "MAX_WAITING", 3)
    writer = Writer(disk)
    callback, trial = PatientFiles([writer]), trial_in(disk / "run")
    filler = fill(disk)
    for env_steps in range(6):
        report(callback, trial, env_steps)
    filler.unlink()
    callback.on_step_end(iteration=1, trials=[trial])
    assert writer.path.read_text() == "3 [0, 1, 2, 3]\n4 [4]\n5 [5]\n"


def test_checkpoint_that_was_not_written_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback, trial = PatientFiles([]), trial_in(tmp_path)
    for _ in range(2):
        report(callback, trial, 1, **{CHECKPOINT_ERROR: "no checkpoint at 1 env steps: full."})
    assert capsys.readouterr().err == "Trial t1: no checkpoint at 1 env steps: full.\n"


def test_failed_writes_leave_no_trace(disk: Path) -> None:
    path = disk / "file"
    append(path, b"whole\n")
    filler = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        append(path, b"y" * 2**20)
    with pytest.raises(OSError, match="No space left"):
        replace(path, b"z" * 2**20)
    assert path.read_bytes() == b"whole\n"
    assert sorted(each.name for each in disk.iterdir()) == ["file", filler.name]
