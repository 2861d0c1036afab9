"""The files of a run are read correctly, also after a kill and a resume."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rlssl.analysis.results import read_sweep, read_trial

WriteTrial = Callable[..., Path]


def test_trial_is_read_from_its_four_files(write_trial: WriteTrial) -> None:
    folder = write_trial(
        "a",
        seed=3,
        point={"auxiliary.icm.coeff": 0.1},
        label="icm",
        returns=[1.5, 2.5],
        successes=[0, 1],
        env_steps=[40, 90],
        results=[{"env_steps": 100, "aux": {"icm": {"forward": 0.25}}}],
    )
    trial = read_trial(folder)
    assert trial.path == folder
    assert (trial.seed, trial.variant_label) == (3, "icm")
    assert trial.point == {"auxiliary.icm.coeff": 0.1}
    assert trial.spec["algorithm"] == "ppo"
    assert trial.results == [{"env_steps": 100, "aux/icm/forward": 0.25}]
    assert trial.episodes.env_steps.tolist() == [40, 90]
    assert trial.episodes.returns.tolist() == [1.5, 2.5]
    assert trial.episodes.lengths.tolist() == [10, 10]
    assert trial.episodes.successes.tolist() == [0, 1]


def test_resumed_run_replaces_the_rows_that_it_repeats(write_trial: WriteTrial) -> None:
    # Killed after 300, resumed from the checkpoint at 100: the old rows 200 and 300 are replaced.
    steps = [100, 200, 300, 200, 300]
    rows = [{"env_steps": step, "row": i} for i, step in enumerate(steps)]
    trial = read_trial(write_trial("a", results=rows))
    assert [(row["env_steps"], row["row"]) for row in trial.results] == [
        (100, 0),
        (200, 3),
        (300, 4),
    ]


def test_incomplete_last_line_is_ignored(write_trial: WriteTrial) -> None:
    folder = write_trial("a", returns=[1.0], results=[{"env_steps": 100}])
    with (folder / "result.json").open("a") as file:
        file.write('{"env_steps": 2')
    with (folder / "episodes.csv").open("a") as file:
        file.write("200,4")
    trial = read_trial(folder)
    assert [row["env_steps"] for row in trial.results] == [100]
    assert trial.episodes.returns.tolist() == [1.0]


def test_broken_line_in_the_middle_is_an_error_with_its_number(write_trial: WriteTrial) -> None:
    folder = write_trial("a", returns=[1.0, 2.0])
    (folder / "result.json").write_text('{"env_steps": 1\n{"env_steps": 2}\n')
    with pytest.raises(ValueError, match=r"result\.json, line 1, is not JSON"):
        read_trial(folder)
    (folder / "result.json").write_text('{"env_steps": 1}\n')
    (folder / "episodes.csv").write_text("env_steps,return,length,success\n1,x,1,1\n2,2,1,1\n")
    with pytest.raises(ValueError, match=r"episodes\.csv, line 2, is not a row of numbers"):
        read_trial(folder)


def test_columns_are_found_by_name_and_an_empty_success_is_unknown(write_trial: WriteTrial) -> None:
    folder = write_trial("a")
    (folder / "episodes.csv").write_text("success,return,length,env_steps\n,7.5,4,80\n")
    episodes = read_trial(folder).episodes
    assert (episodes.env_steps[0], episodes.returns[0], episodes.lengths[0]) == (80, 7.5, 4)
    assert math.isnan(episodes.successes[0])


def test_missing_column_or_file_is_named(write_trial: WriteTrial) -> None:
    folder = write_trial("a", returns=[1.0])
    (folder / "episodes.csv").write_text("env_steps,return\n")
    with pytest.raises(ValueError, match="has no columns length, success"):
        read_trial(folder)
    (folder / "episodes.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"episodes\.csv"):
        read_trial(folder)


def test_trial_without_a_seed_is_an_error(write_trial: WriteTrial) -> None:
    folder = write_trial("a")
    (folder / "trial.json").write_text('{"point": {}}')
    with pytest.raises(ValueError, match=r"trial\.json has no seed"):
        read_trial(folder)


def test_trials_that_never_reported_are_left_out(write_trial: WriteTrial) -> None:
    write_trial("b", seed=1)
    sweep = write_trial("a", seed=0).parent
    (write_trial("c") / "result.json").unlink()
    (write_trial("d") / "result.json").write_text("")
    (sweep / "experiment_state.json").write_text("{}")
    assert [trial.path.name for trial in read_sweep(sweep)] == ["a", "b"]


def test_folder_of_a_trial_is_read_as_a_sweep_of_one_trial(write_trial: WriteTrial) -> None:
    folder = write_trial("a")
    (folder / "checkpoint_000001").mkdir()
    assert [trial.path for trial in read_sweep(folder)] == [folder]


def test_folder_without_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no trial with a result\.json"):
        read_sweep(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_sweep(tmp_path / "nowhere")
