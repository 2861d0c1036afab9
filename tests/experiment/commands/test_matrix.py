"""The matrix of algorithms and losses: refused files, the table, and a run of all combinations."""

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
    read_matrix,
    spec_of,
    train_row,
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
    from rlssl.registry import ALGORITHMS, COUNTING_UPDATES

    crossed, sampling = read_matrix(MATRIX), {*ALGORITHMS} - {*COUNTING_UPDATES}
    assert {row["algorithm"] for row in crossed.rows} == sampling
    for algorithm in sampling:
        inputs = [row["input"] for row in crossed.rows if row["algorithm"] == algorithm]
        assert inputs == ["vector", "pixels"]
    losses = {name for one in crossed.losses.values() for name in one}
    assert losses >= {name for name in AUXILIARY_LOSSES if not name.startswith("test_")} - {
        # A loss of the example package, if that is installed.
        "lab_small",
        # Losses that need demonstrations.
        "behavior_cloning",
        "demonstration_progress",
        "gail",
    }
    for row in crossed.rows:
        chosen = crossed.choices(row)
        assert set(crossed.losses) - set(chosen) <= set(crossed.inputs)
        assert (row["input"] == "pixels") == (set(crossed.losses) == set(chosen))
        for one in chosen.values():
            spec_of(row, one)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"updtes": 1}, "unknown key 'updtes' of a matrix; did you mean 'updates'?"),
        ({"updates": 0}, "a matrix needs ['updates']"),
        ({"updates": 1.5}, "updates must be a whole number >= 1; got 1.5."),
        ({"rows": ["ppo"]}, "rows must list partial specs"),
        ({"losses": {"curl": "curl"}}, "losses must map names"),
        ({"inputs": {"curl": "pixels"}}, "inputs must map names of losses of this matrix"),
    ],
)
def test_wrong_matrix_names_the_key(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **change}))
    with pytest.raises(SpecError) as error:
        read_matrix(str(path))
    assert message in str(error.value)


def test_matrix_is_not_a_sweep() -> None:
    assert MATRIX not in list_sweeps()
    with pytest.raises(SpecError, match="'matrix' is not a sweep; run it with `rlssl matrix`"):
        load_spec(MATRIX)


def test_table_and_lines_show_success_and_failure(tmp_path: Path) -> None:
    well = Outcome(
        *("sac", "vector", "icm"),
        gradient="icm:own",
        updates=8,
        updates_per_s=20.0,
        overhead=1.25,
        last={"icm/forward": 0.5},
    )
    failed = Outcome("sac", "vector", "mine", problem="ValueError: no")
    line = "20.0 updates/s, 1.25 times as long as without losses; gradients reach icm:own"
    assert line in line_of(well)
    assert line_of(failed).endswith("ValueError: no")
    rows = list(csv.DictReader(write_table([well, failed], tmp_path / TABLE_FILE).open()))
    assert rows[0]["last"] == "icm/forward=0.5" and rows[0]["overhead"] == "1.25"
    assert math.isnan(float(rows[1]["updates_per_s"])) and rows[1]["problem"] == "ValueError: no"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_failing_choice_is_reported_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the bad batch is saved there
    row = {
        "algorithm": "ppo",
        "env": {"id": "CartPole-v1"},
        "training": {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 1},
    }
    # The weights are not finite after the first step, so every later update is skipped.
    wild = {"icm": {"coeff": 1e38}}
    well, failed = train_row(row, {"none": {}, "wild": wild}, updates=40)
    assert not well.problem and well.updates >= 40 and well.overhead == 1.0
    assert failed.problem


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whole_matrix_trains_without_a_problem(tmp_path: Path) -> None:
    rlssl("matrix", "--set", "updates=3", cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "results" / TABLE_FILE).open()))
    crossed = read_matrix(MATRIX)
    assert len(rows) == sum(len(crossed.choices(row)) for row in crossed.rows)
    assert not [row for row in rows if row["problem"] or int(row["updates"]) < 3]
