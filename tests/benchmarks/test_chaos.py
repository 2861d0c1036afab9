"""The account of the chaos benchmark: what runs tell, against what was done to them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.chaos.account import differences, told


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one trial, two notes, and an EnvRunner that was restarted."""
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "trial.json").write_text('{"point": {}, "seed": 0}')
    (trial / "spec.yaml").write_text("algorithm: ppo")
    (trial / "episodes.csv").write_text("env_steps,return,length,success\n")
    result = {"env_steps": 20, "env_steps_at_start": 0, "faults": {"env_runner_restarts": 1}}
    (trial / "result.json").write_text(json.dumps(result) + "\n")
    notes = [{"time": 100.0, "kind": "retry", "words": ""}]
    notes += [{"time": 205.0, "kind": "disk", "words": ""}]
    (tmp_path / "faults.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    return tmp_path


def test_notes_and_counts_are_told(run: Path) -> None:
    assert told(run) == Counter(retry=1, disk=1, env_runner_restarts=1)


@pytest.mark.parametrize(
    ("expected", "full", "found"),
    [
        (dict(retry=1, disk=1, env_runner_restarts=1), [(200, 220)], []),
        (
            dict(retry=2, env_runner_restarts=1, resumed=1),
            [(200, 220)],
            ["resumed: 1 done, 0 told", "retry: 2 done, 1 told"],
        ),
        (
            dict(disk=1),
            [(10, 30)],
            [
                "env_runner_restarts: 0 done, 1 told",
                "retry: 0 done, 1 told",
                "disk: told at 205, when the disk was not full",
            ],
        ),
    ],
)
def test_differences_are_named(
    run: Path, expected: dict[str, int], full: list[tuple[float, float]], found: list[str]
) -> None:
    assert list(differences(Counter(expected), run, full)) == found


def test_a_full_disk_that_nobody_tells_is_a_difference(run: Path) -> None:
    (run / "faults.jsonl").unlink()
    expected = Counter(disk=1, env_runner_restarts=1)
    assert list(differences(expected, run, [(200, 220)])) == [
        "disk: it was full, and nothing is told"
    ]
