"""Names and paths of runs: which folder a command takes."""

import json
import os
import re
from pathlib import Path

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.run_folders import (
    all_runs,
    checkpoint_folder,
    locate,
    runs_named,
    sweep_folder,
    trial_folder,
    trial_folders,
)


def make_run(
    root: Path, folder: str, *, name: str | None = None, started: float | None = None
) -> Path:
    """A run's folder; without a name and a start it is of an earlier version."""
    path = root / folder
    path.mkdir(parents=True)
    noted = {"name": name, "started": started}
    content = {key: value for key, value in noted.items() if value is not None}
    (path / "run.json").write_text(json.dumps(content))
    return path


def add_checkpoint(run: Path, *, with_policy: bool = True) -> Path:
    trial = run / "default-seed0-abc"
    folder = trial / "checkpoint_000001"
    (folder / "policy").mkdir(parents=True)
    (trial / "trial.json").write_text("{}")
    (folder / "rlssl_checkpoint.json").write_text("{}")
    if with_policy:
        (folder / "policy" / "policy.json").write_text("{}")
    return folder


def test_the_newest_run_with_a_checkpoint_is_taken_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run(tmp_path, "ppo", name="ppo", started=1)
    second = make_run(tmp_path, "ppo-2", name="ppo", started=2)
    third = make_run(tmp_path, "ppo-3", name="ppo", started=3)
    add_checkpoint(first)
    add_checkpoint(second)
    assert locate("ppo", str(tmp_path), having="policy") == second
    assert "3 runs have the name 'ppo'" in capsys.readouterr().err
    assert locate("ppo", str(tmp_path)) == third
    assert "ppo-3" in capsys.readouterr().err
    assert locate("ppo-2", str(tmp_path), having="policy") == second
    assert capsys.readouterr() == ("", "")


def test_a_policy_is_not_looked_for_in_checkpoints_without_one(tmp_path: Path) -> None:
    first = make_run(tmp_path, "ppo", name="ppo", started=1)
    second = make_run(tmp_path, "ppo-2", name="ppo", started=2)
    add_checkpoint(first)
    add_checkpoint(second, with_policy=False)
    assert locate("ppo", str(tmp_path), having="policy") == first
    assert locate("ppo", str(tmp_path), having="checkpoint") == second


def test_runs_without_what_is_needed_are_listed(tmp_path: Path) -> None:
    make_run(tmp_path, "ppo", name="ppo", started=1)
    make_run(tmp_path, "ppo-2", name="ppo", started=2)
    message = "none of the 2 runs named 'ppo' has a checkpoint: ppo-2, ppo."
    with pytest.raises(SpecError, match=re.escape(message)):
        locate("ppo", str(tmp_path), having="checkpoint")


def test_a_run_that_the_user_named_so_is_not_a_later_run_of_another(tmp_path: Path) -> None:
    make_run(tmp_path, "ppo", name="ppo", started=1)
    make_run(tmp_path, "ppo-2", name="ppo-2", started=2)
    assert [path.name for path in runs_named("ppo", tmp_path)] == ["ppo"]
    assert [path.name for path in runs_named("ppo-2", tmp_path)] == ["ppo-2"]


def test_runs_of_earlier_versions_are_found_by_their_times(tmp_path: Path) -> None:
    for index, folder in enumerate(["ppo", "ppo-20250101-120000", "ppo-20250102-120000"]):
        made = make_run(tmp_path, folder)
        os.utime(made / "run.json", (index, index))
    found = [path.name for path in runs_named("ppo", tmp_path)]
    assert found == ["ppo-20250102-120000", "ppo-20250101-120000", "ppo"]


def test_every_path_of_a_run_leads_to_its_run_trial_and_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ppo")
    checkpoint = add_checkpoint(run)
    trial = checkpoint.parent
    for folder in (trial, checkpoint, checkpoint / "policy", trial / "export"):
        folder.mkdir(exist_ok=True)
        assert sweep_folder(folder) == run
        assert trial_folder(folder) == trial
    assert sweep_folder(run) == run
    assert trial_folder(run) is None
    assert checkpoint_folder(checkpoint) == checkpoint_folder(checkpoint / "policy") == checkpoint
    assert checkpoint_folder(trial) is None
    assert trial_folders(run) == trial_folders(trial) == [trial]


def test_a_file_means_its_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ppo")
    (run / "table.csv").write_text("")
    assert locate(run / "table.csv") == run


def test_an_unrelated_folder_does_not_hide_a_run_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, "results/quickstart")
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("quickstart") == run


def test_damaged_descriptions_do_not_hide_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ppo")
    (run / "run.json").write_text("{")
    assert locate("ppo", str(tmp_path)) == run


def test_runs_in_folders_of_folders_are_listed_newest_first(tmp_path: Path) -> None:
    old = make_run(tmp_path, "lab/ppo", started=1)
    new = make_run(tmp_path, "sac", started=2)
    (tmp_path / "notes").mkdir()
    assert all_runs(tmp_path) == [new, old]
    assert all_runs(tmp_path / "nowhere") == []
