"""The table of trials and the lines below it."""

import math
import time
from pathlib import Path

from rich.console import Console

from rlssl.analysis.live.following import RunFollower, RunProgress
from rlssl.analysis.live.table import summary_lines, trials_table
from rlssl.analysis.sparkline import BLOCKS
from tests.analysis.live.running_runs import RunningRun


def rendered(progress: RunProgress, num_rows: int | None, width: int = 80) -> tuple[list[str], int]:
    table, left_out = trials_table(progress, num_rows, width=width, symbols=BLOCKS)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()], left_out


def test_every_trial_has_its_state_progress_and_course(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "lr")
    first, second = run.begin(0, 0), run.begin(0, 1)
    for env_steps, score in ((250, 0.0), (500, 7.0)):
        run.report(first, env_steps, score, faults={"env_crashes": 2, "episodes_dropped": 1})
    run.report(second, 1000, math.nan, done=True)
    run.begin(1, 0)
    progress = RunFollower(run.folder).look(is_running=True)
    lines, left_out = rendered(progress, None)
    assert left_out == 0 and max(map(len, lines)) <= 80
    assert [line.split() for line in lines] == [
        ["point", "seed", "state", "env", "steps", "done", "return", "course", "steps/s", "faults"],
        ["lr=0.1", "0", "running", "500", "50%", "7.00", "▁█", "100", "3"],
        ["lr=0.1", "1", "finished", "1,000", "100%", "-", "100", "-"],
        ["lr=0.2", "0", "starting", "0", "0%", "-", "-", "-"],
    ]
    assert summary_lines(progress, "running") == [
        # 500 + 1000 of 4 x 1000 env steps; 2500 at 100 a second.
        "lr is running: 1 of 4 trials finished, 1 running, 1 starting, 1 waiting; "
        "38% of the env steps, 100 env steps/s, 25 s left.",
        "Best: lr=0.1, return 7.00.",
    ]


def test_of_too_many_trials_those_that_need_a_look_are_shown(tmp_path: Path) -> None:
    points = [{"x": index} for index in range(6)]
    run = RunningRun(tmp_path / "lr", {"seeds": [0]}, points)
    for index in range(4):
        run.report(run.begin(index, 0), 1000, float(index), done=True)
    run.report(run.begin(4, 0), 100, -1.0)
    run.report(run.begin(5, 0), 100, -1.0, timestamp=time.time() - 300)
    lines, left_out = rendered(RunFollower(run.folder).look(is_running=True), 3)
    assert [line.split()[0] for line in lines[1:]] == ["x=3", "x=4", "x=5"]
    assert "quiet 5 min 0 s" in lines[3] and left_out == 3


def test_an_objective_that_is_not_the_return_has_its_column(tmp_path: Path) -> None:
    spec = {"objective": {"metric": "loss", "mode": "min"}}
    run = RunningRun(tmp_path / "lr", spec)
    run.report(run.begin(0, 0), 100, 1.0, objective=0.5)
    run.report(run.begin(1, 0), 100, 2.0, objective=0.25)
    progress = RunFollower(run.folder).look(is_running=True)
    lines, _ = rendered(progress, None, 120)
    assert "loss" in lines[0] and "0.500" in lines[1]
    assert "Best: lr=0.2, loss 0.250." in summary_lines(progress, "running")


def test_a_label_that_is_too_long_is_cut(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "lr", points=[{"training.lr": "x" * 200}])
    run.report(run.begin(0, 0), 100, 1.0)
    lines, _ = rendered(RunFollower(run.folder).look(is_running=True), None)
    assert len(lines) == 2 and max(map(len, lines)) <= 80 and "…" in lines[1]


def test_only_some_problems_are_shown(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "lr")
    trial = run.begin(0, 0)
    (trial / "result.json").write_text("x\n" * 5)
    lines = summary_lines(RunFollower(run.folder).look(is_running=True), "running")
    assert sum(line.startswith("Problem: ") for line in lines) == 3
    assert lines[-1] == "... and 2 more problems."
