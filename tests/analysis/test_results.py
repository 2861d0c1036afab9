"""The files of a run are read correctly, also after a kill and a resume."""

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlssl.analysis.results import read_run, read_sweep, read_trial

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


def test_broken_lines_are_skipped_and_named(write_trial: WriteTrial) -> None:
    folder = write_trial("a")
    (folder / "result.json").write_bytes(
        b'{"env_steps": 1\n{"env_steps": 2}\n\xff\xfe\n[3]\n{"env_steps": "x"}\n{"env_steps": 4}\n'
    )
    header = "env_steps,return,length,success\n"
    (folder / "episodes.csv").write_bytes(
        header.encode() + b"1,x,1,1\n2,2,1,1\n3,\xff,1,1\n4,nan,1,\n5,5\n6,6,1,\n"
    )
    with pytest.warns(UserWarning, match="skipped"):
        trial = read_trial(folder)
    assert [row["env_steps"] for row in trial.results] == [2, 4]
    assert trial.episodes.returns.tolist() == [2, 6]
    of_results, of_episodes = trial.problems
    assert "result.json, line 1, is not JSON: " in of_results
    assert of_results.endswith("; skipped, and 3 more lines.")
    assert "episodes.csv, line 2, is not a row of numbers: '1,x,1,1'; skipped" in of_episodes


def test_trial_that_cannot_be_read_is_left_out_and_named(write_trial: WriteTrial) -> None:
    sweep = write_trial("a", seed=0).parent
    damage = {
        "b": ("result.json", b"\x00\x00\n\x00\n", "no line of .*result.json can be read"),
        "c": ("trial.json", b"{", "trial.json is not JSON"),
        "d": ("spec.yaml", b"a: [\n", "spec.yaml is not YAML"),
        "e": ("episodes.csv", b"", "episodes.csv has no columns"),
    }
    for name, (file, content, _) in damage.items():
        (write_trial(name, seed=1) / file).write_bytes(content)
    run = read_run(sweep)
    assert [trial.path.name for trial in run.trials] == ["a"]
    for problem, (_, _, words) in zip(run.problems, damage.values(), strict=True):
        assert re.search(words, problem)
    shutil.rmtree(sweep / "a")
    with pytest.raises(ValueError, match=r"no trial of .* can be read:\n(.*\n){3}"):
        read_sweep(sweep)


def test_status_of_a_trial(write_trial: WriteTrial, write_run: Callable[..., Path]) -> None:
    done = [{"env_steps": 50, "done": True}]
    sweep = write_run([{"x": 0}, {"x": 1}], seeds=[0, 1, 2], stopped={1: 500})
    write_trial("a", point={"x": 0}, seed=0, results=done)
    write_trial("b", point={"x": 0}, seed=1)
    (write_trial("c", point={"x": 0}, seed=2) / "error.txt").write_text("boom")
    write_trial("d", point={"x": 1}, seed=0)
    # It failed, was retried, and finished.
    (write_trial("e", point={"x": 1}, seed=1, results=done) / "error.txt").write_text("boom")
    trials = read_sweep(sweep)
    assert [trial.status for trial in trials] == [
        "finished",
        "unfinished",
        "failed",
        "stopped",
        "stopped",
    ]
    assert {trial.sweep_seeds for trial in trials} == {(0, 1, 2)}
    assert trials[-1].stopped_at == 500
    assert read_trial(sweep / "c").status == "failed"


def test_trials_come_in_the_order_of_the_points(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run([{"x": 1}, {"x": 0}])
    write_trial("a", point={"x": 0})
    write_trial("b", point={"x": 1})
    assert [trial.path.name for trial in read_sweep(sweep)] == ["b", "a"]


def test_second_folder_of_a_seed_is_left_out(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    # A driver that was killed at a bad moment may leave the beginning of a trial.
    sweep = write_run(seeds=[0, 1])
    write_trial("a", seed=0, results=[{"env_steps": 9}])
    write_trial("b", seed=0, results=[{"env_steps": 50, "done": True}])
    write_trial("c", seed=1, results=[{"env_steps": 50, "done": True}])
    run = read_run(sweep)
    assert [trial.path.name for trial in run.trials] == ["b", "c"]
    assert run.problems == [f"{sweep / 'a'} repeats {sweep / 'b'}; left out."]


def test_damaged_file_of_the_run_is_named_and_the_trials_are_read(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run()
    write_trial("a")
    for name in ("sweep.yaml", "points.json", "scheduler.json"):
        (sweep / name).write_bytes(b"{\xff")
    run = read_run(sweep)
    assert len(run.trials) == 1
    assert [Path(problem.split(" is ")[0]).name for problem in run.problems] == [
        "sweep.yaml",
        "points.json",
        "scheduler.json",
    ]


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


def test_trials_that_failed_before_their_first_result_are_named(write_trial: WriteTrial) -> None:
    for name in ("a", "b"):
        folder = write_trial(name)
        (folder / "result.json").unlink()
        (folder / "error.txt").write_text("Traceback\nValueError: broken\n")
    words = r"2 of its trials failed before their first one\. .*a/error\.txt: ValueError: broken"
    with pytest.raises(ValueError, match=words):
        read_run(folder.parent)


def test_folder_without_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no trial with a result\.json"):
        read_sweep(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_sweep(tmp_path / "nowhere")


@pytest.mark.parametrize("space, seeds", [("{grid: [1, 2]}", (0, 1)), ("{uniform: [1, 2]}", ())])
def test_seeds_of_a_run_before_points_json(
    write_trial: WriteTrial, write_run: Callable[..., Path], space: str, seeds: tuple[int, ...]
) -> None:
    folder = write_run(seeds=(0, 1))
    (folder / "points.json").unlink()
    (folder / "sweep.yaml").write_text(f"seeds: [0, 1]\nsearch:\n  training.lr: {space}\n")
    write_trial("a")
    # With values that were drawn for each seed, a point has only its own seed: none is missing.
    assert [trial.sweep_seeds for trial in read_sweep(folder)] == [seeds]
