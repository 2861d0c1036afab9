"""What happened to a run is in its folder, and in its summary."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlssl.analysis.faults import Note, noted_faults
from rlssl.analysis.results import read_trial
from rlssl.experiment.fault_log import (
    note_fault,
    print_faults,
    write_waiting_notes,
)
from tests.experiment.faults.run_processes import small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as path:
        yield path


def trial_with(folder: Path, *rows: tuple[int, int, int]) -> Path:
    """Writes a trial with results (env steps, env steps at the start, EnvRunner restarts)."""
    folder.mkdir()
    (folder / "trial.json").write_text('{"point": {}, "seed": 0}')
    (folder / "spec.yaml").write_text("algorithm: ppo")
    (folder / "episodes.csv").write_text("env_steps,return,length,success\n")
    results: list[dict[str, Any]] = [
        {"env_steps": steps, "env_steps_at_start": start, "faults": {"env_runner_restarts": count}}
        for steps, start, count in rows
    ]
    (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in results))
    return folder


@pytest.mark.parametrize(
    "rows, total",
    [
        ([(10, 0, 0), (20, 0, 2)], 2),
        # The checkpoint at 10 has 1 restart. The second one, after it, is not in the last result.
        ([(10, 0, 1), (20, 0, 2), (20, 10, 1)], 2),
        # No checkpoint: from the beginning.
        ([(10, 0, 1), (20, 0, 3), (10, 0, 0), (20, 0, 1)], 4),
        # One process, in iterations that waited for the new EnvRunner without a step.
        ([(10, 0, 0), (10, 0, 1), (10, 0, 1), (20, 0, 1)], 1),
        # Two restarts of the trial from the same checkpoint.
        ([(10, 0, 0), (20, 0, 1), (20, 10, 2), (20, 10, 0)], 3),
    ],
)
def test_faults_before_a_restart_of_the_trial_count(
    tmp_path: Path, rows: list[tuple[int, int, int]], total: int
) -> None:
    trial = read_trial(trial_with(tmp_path / "trial", *rows))
    assert trial.num_faults("env_runner_restarts") == total


def test_summary_has_a_line_for_each_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = read_trial(trial_with(tmp_path / "trial", (10, 0, 1)))
    print_faults(tmp_path, [])
    assert capsys.readouterr().out == ""
    note_fault(tmp_path, "resumed", "it had been interrupted")
    note_fault(tmp_path, "retry", "trial a lost a process\nwith details")
    note_fault(tmp_path, "retry", "trial b lost a process")
    with (tmp_path / "faults.jsonl").open("a") as file:
        file.write('{"kind": "ret')  # a killed process
    print_faults(tmp_path, [trial])
    assert capsys.readouterr().out.splitlines() == [
        "Faults of the run:",
        "  EnvRunners restarted: 1",
        "  trials restarted: 2; the latest: trial b lost a process",
        "  run resumed: 1: it had been interrupted",
    ]


def test_note_waits_for_space_on_the_disk(disk: Path) -> None:
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2**21)
    note_fault(disk, "retry", "the first")
    note_fault(disk, "retry", "the second")
    assert list(noted_faults(disk)) == []
    filler.unlink()
    write_waiting_notes()
    write_waiting_notes()
    assert list(noted_faults(disk)) == [Note("retry", "the first"), Note("retry", "the second")]
