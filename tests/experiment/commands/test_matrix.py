"""The matrix of algorithms and losses: what is refused, what a table says, and all of it played."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.errors import SpecError
from rlssl.experiment.commands.matrix import (
    TABLE_FILE,
    Outcome,
    line_of,
    play_row,
    read_matrix,
    spec_of,
    write_table,
)
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.yaml_reader import MATRIX, list_sweeps
from rlssl.registry import AUXILIARY_LOSSES
from tests.experiment.command_line import rlssl

SMALL: dict[str, Any] = {
    "updates": 1,
    "rows": [{"algorithm": "ppo", "env": {"id": "CartPole-v1"}}],
    "losses": {"none": {}},
}


def test_every_algorithm_meets_every_loss_on_vectors_and_images() -> None:
    from rlssl.registry import ALGORITHMS

    crossed = read_matrix(MATRIX)
    assert {row["algorithm"] for row in crossed.rows} == set(ALGORITHMS)
    for algorithm in ALGORITHMS:
        inputs = [row["input"] for row in crossed.rows if row["algorithm"] == algorithm]
        assert inputs == ["vector", "pixels"]
    losses = {name for one in crossed.losses.values() for name in one}
    assert losses >= {name for name in AUXILIARY_LOSSES if not name.startswith("test_")} - {
        # Of the example, where it is installed.
        "lab_small"
    }
    for row in crossed.rows:
        for one in crossed.losses.values():
            spec_of(row, one)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"updtes": 1}, "unknown key 'updtes' of a matrix; did you mean 'updates'?"),
        ({"updates": 0}, "a matrix needs ['updates']"),
        ({"updates": 1.5}, "updates must be a whole number >= 1; got 1.5."),
        ({"rows": ["ppo"]}, "rows must list partial specs"),
        ({"losses": {"curl": "curl"}}, "losses must map names"),
    ],
)
def test_wrong_matrix_names_the_key(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **change}))
    with pytest.raises(SpecError) as error:
        read_matrix(str(path))
    assert message in str(error.value)


def test_matrix_is_no_sweep() -> None:
    assert MATRIX not in list_sweeps()
    with pytest.raises(SpecError, match="`rlssl matrix` plays it"):
        load_spec(MATRIX)


def test_table_and_lines_tell_of_success_and_failure(tmp_path: Path) -> None:
    well = Outcome(
        *("sac", "vector", "icm"),
        gradient="icm:own",
        updates=8,
        updates_per_s=20.0,
        overhead=1.25,
        last={"icm/forward": 0.5},
    )
    failed = Outcome("sac", "vector", "mine", problem="ValueError: no")
    assert "20.0 updates/s, 1.25 times as long as without; reaches icm:own" in line_of(well)
    assert line_of(failed).endswith("ValueError: no")
    rows = list(csv.DictReader(write_table([well, failed], tmp_path / TABLE_FILE).open()))
    assert rows[0]["last"] == "icm/forward=0.5" and rows[0]["overhead"] == "1.25"
    assert math.isnan(float(rows[1]["updates_per_s"])) and rows[1]["problem"] == "ValueError: no"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cell_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the bad batch is saved
    row = {
        "algorithm": "ppo",
        "env": {"id": "CartPole-v1"},
        "training": {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 1},
    }
    # Weights that are not finite after the first step: every update after it is skipped.
    wild = {"icm": {"coeff": 1e38}}
    well, failed = play_row(row, {"none": {}, "wild": wild}, updates=40)
    assert not well.problem and well.updates >= 40 and well.overhead == 1.0
    assert failed.problem


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whole_matrix_is_played(tmp_path: Path) -> None:
    rlssl("matrix", "--set", "updates=3", cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "results" / TABLE_FILE).open()))
    crossed = read_matrix(MATRIX)
    assert len(rows) == len(crossed.rows) * len(crossed.losses)
    assert not [row for row in rows if row["problem"] or int(row["updates"]) < 3]
