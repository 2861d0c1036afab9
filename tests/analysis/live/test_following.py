"""The progress of a run is read from files that grow."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.analysis.live.following import RunFollower, TrialProgress
from rlssl.analysis.live.table import summary_lines
from tests.analysis.live.running_runs import SPEC, RunningRun


@pytest.fixture
def run(tmp_path: Path) -> RunningRun:
    return RunningRun(tmp_path / "lr")


def only(run: RunningRun, *, is_running: bool = True) -> TrialProgress:
    (trial,) = RunFollower(run.folder).look(is_running=is_running).trials
    return trial


def test_each_look_adds_what_is_new(run: RunningRun) -> None:
    follower = RunFollower(run.folder)
    trial = run.begin(0, 0)
    (found,) = follower.look(is_running=True).trials
    assert (found.state, found.env_steps, found.course) == ("starting", 0, [])
    run.report(trial, 200, 2.0)
    run.report(trial, 400, 4.0)
    (found,) = follower.look(is_running=True).trials
    assert (found.label, found.seed, found.state) == ("lr=0.1", 0, "running")
    assert (found.env_steps, found.goal, found.last_return) == (400, 1000, 4.0)
    run.report(trial, 500, 6.0)
    (found,) = follower.look(is_running=True).trials
    assert (found.course, found.env_steps_per_s) == ([2.0, 4.0, 6.0], 100.0)


def test_time_left_counts_trials_that_have_not_begun(run: RunningRun) -> None:
    done, half = run.begin(0, 0), run.begin(0, 1)
    run.report(done, 1010, 1.0, done=True)
    run.report(half, 500, 1.0)
    progress = RunFollower(run.folder).look(is_running=True)
    assert progress.num_expected == 4  # 2 points x 2 seeds
    # 500 env steps of the second trial and 2 x 1000 of those that wait, of about 4 x 1000;
    # 100 env steps a second.
    assert progress.share == 1 - 2500 / 4000
    assert progress.seconds_left == 25.0


def test_what_a_failed_trial_did_not_do_is_not_done(run: RunningRun) -> None:
    failed, done = run.begin(0, 0), run.begin(0, 1)
    (failed / "error.txt").write_text("ValueError: broken")
    run.report(done, 1000, 1.0, done=True)
    for seed in range(2):
        run.report(run.begin(1, seed), 1000, 1.0, done=True)
    progress = RunFollower(run.folder).look(is_running=False)
    # 3 x 1000 of 4 x 1000; a trial that failed is not waited for.
    assert (progress.share, progress.count("failed")) == (0.75, 1)
    assert "75% of the env steps" in summary_lines(progress, "failed")[0]


@pytest.mark.parametrize("missing", [["points.json"], ["points.json", "sweep.yaml"]])
def test_before_the_points_are_chosen_no_number_of_trials_is_said(
    run: RunningRun, missing: list[str]
) -> None:
    for name in missing:
        (run.folder / name).unlink()
    progress = RunFollower(run.folder).look(is_running=True)
    assert progress.num_expected == 0
    assert summary_lines(progress, "running") == [
        "lr is running: how many trials it has is not known yet.",
        "No trial has begun yet.",
    ]


def test_a_searcher_that_chooses_points_says_how_many_there_will_be(tmp_path: Path) -> None:
    spec = {"searcher": {"optuna": {"num_samples": 7}}, "objective": {"metric": "success_rate"}}
    run = RunningRun(tmp_path / "lr", spec)
    run.report(run.begin(0, 0), 100, 5.0, success_rate=0.25, objective=0.5)
    progress = RunFollower(run.folder).look(is_running=True)
    assert progress.num_expected == 14
    assert (progress.trials[0].last_return, progress.trials[0].score) == (5.0, 0.5)


def test_rows_after_a_restart_replace_those_before(run: RunningRun) -> None:
    trial = run.begin(0, 0)
    follower = RunFollower(run.folder)
    for env_steps, score in ((100, 1.0), (200, 2.0), (300, 3.0)):
        run.report(trial, env_steps, score, faults={"env_crashes": 4 if env_steps > 100 else 0})
    assert follower.look(is_running=True).trials[0].course == [1.0, 2.0, 3.0]
    run.report(trial, 200, 9.0, env_steps_at_start=100, time_since_restore=0.5)
    (found,) = follower.look(is_running=True).trials
    assert (found.course, found.env_steps) == ([1.0, 9.0], 200)
    # 100 env steps in 0.5 s of the new process; the faults of the old one are not forgotten.
    assert (found.env_steps_per_s, found.faults["env_crashes"]) == (200.0, 4)


def test_the_speed_is_that_of_the_last_minute(run: RunningRun) -> None:
    trial = run.begin(0, 0)
    for seconds, env_steps in ((10, 10), (30, 30), (60, 660), (90, 690)):
        run.report(trial, env_steps, 1.0, time_since_restore=float(seconds))
    # From 30 s to 90 s: 690 - 30 env steps in 60 s.
    assert only(run).env_steps_per_s == 11.0


def test_a_trial_that_says_nothing_is_quiet(run: RunningRun) -> None:
    run.report(run.begin(0, 0), 100, 1.0, timestamp=time.time() - 90)
    found = only(run)
    assert found.state == "quiet" and 89 < found.age_s < 100


def test_a_trial_that_reports_rarely_is_not_quiet_at_once(tmp_path: Path) -> None:
    run = RunningRun(tmp_path / "lr", {"report_every_s": 60})
    run.report(run.begin(0, 0), 100, 1.0, timestamp=time.time() - 90)
    assert only(run).state == "running"


def test_a_retry_is_no_failure(run: RunningRun) -> None:
    trial = run.begin(0, 0)
    run.report(trial, 100, 1.0)
    (trial / "error.txt").write_text("a process died")
    assert only(run).state == "failed"
    time.sleep(0.01)  # the file's time must differ
    run.begin(0, 0)
    assert only(run).state == "running"
    assert only(run, is_running=False).state == "failed"


def test_trials_of_a_killed_run_are_interrupted(run: RunningRun) -> None:
    run.report(run.begin(0, 0), 100, 1.0)
    assert only(run, is_running=False).state == "interrupted"


def test_a_stopped_point(run: RunningRun) -> None:
    run.report(run.begin(1, 0), 100, 1.0, done=True)
    stops = [{"values": run.points[1], "stopped_at": 100}]
    (run.folder / "scheduler.json").write_text(json.dumps({"points": stops}))
    assert only(run).state == "stopped"


def test_damage_is_named_and_the_rest_is_shown(run: RunningRun) -> None:
    good, bad, none = run.begin(0, 0), run.begin(0, 1), run.begin(1, 0)
    run.report(good, 100, 1.0)
    with (bad / "result.json").open("a") as file:
        file.write("not json\n12\n")
    run.report(bad, 200, math.nan)
    with (bad / "result.json").open("a") as file:
        file.write('{"env_st')
    (none / "trial.json").write_text("{")
    follower = RunFollower(run.folder)
    for _ in range(2):  # the lines are read once, and the problems stay
        progress = follower.look(is_running=True)
        assert [trial.env_steps for trial in progress.trials] == [100, 200]
        assert math.isnan(progress.trials[1].last_return)
        words = "\n".join(sorted(progress.problems))
        assert "result.json, line 1: Expecting value" in words
        assert "result.json, line 2: is not a result" in words
        assert "point1-seed0: JSONDecodeError" in words
        assert len(progress.problems) == 3


@pytest.mark.parametrize("content", ["", "- 1", "stop: {env_steps: many}", "a: [", "objective: 3"])
def test_a_damaged_spec_is_a_problem_not_an_end(run: RunningRun, content: str) -> None:
    (run.folder / "sweep.yaml").write_text(content)
    run.report(run.begin(0, 0), 100, 1.0)
    progress = RunFollower(run.folder).look(is_running=True)
    assert progress.trials[0].env_steps == 100 and math.isinf(progress.trials[0].goal)
    assert len(progress.problems) == 1 and "sweep.yaml" in progress.problems[0]
    assert math.isnan(progress.share) and math.isnan(progress.seconds_left)


def test_a_later_end_and_more_seeds_are_noticed(run: RunningRun) -> None:
    for point in range(2):
        for seed in range(2):
            run.report(run.begin(point, seed), 1000, 1.0, done=True)
    follower = RunFollower(run.folder)
    assert follower.look(is_running=True).share == 1.0
    spec = run.folder / "sweep.yaml"
    spec.write_text(yaml.safe_dump({**SPEC, "stop": {"env_steps": 4000}, "seeds": [0, 1, 2]}))
    for point in range(2):
        for seed in range(2):
            run.report(run.begin(point, seed), 2000, 1.0)
    progress = follower.look(is_running=True)
    # 2 points x 3 seeds x 4000 env steps, of which 4 x 2000 are done.
    assert progress.num_expected == 6
    assert progress.share == pytest.approx(8000 / 24_000)
    spec.write_text("stop: {env_steps: 9")  # half of the file
    progress = follower.look(is_running=True)
    assert progress.share == pytest.approx(8000 / 24_000) and len(progress.problems) == 1


def test_500_trials_stay_light(tmp_path: Path) -> None:
    points = [{"training.lr": float(index)} for index in range(100)]
    run = RunningRun(tmp_path / "lr", {"seeds": list(range(5))}, points)
    filler: dict[str, Any] = {"learners": {f"metric_{i}": 0.123456789 * i for i in range(60)}}
    trials = [run.begin(point, seed) for point in range(100) for seed in range(5)]
    row = {"env_steps_at_start": 0, "timestamp": int(time.time()), **filler}
    for trial in trials:
        rows = ({**row, "env_steps": 10 * step, "episode_return_mean": 1.0} for step in range(20))
        (trial / "result.json").write_text("".join(json.dumps(one) + "\n" for one in rows))
    follower = RunFollower(run.folder)
    begin = time.perf_counter()
    assert len(follower.look(is_running=True).trials) == 500
    first = time.perf_counter() - begin
    for trial in trials[:50]:
        run.report(trial, 500, 2.0)
    begin = time.perf_counter()
    progress = follower.look(is_running=True)
    later = time.perf_counter() - begin
    assert sum(trial.env_steps == 500 for trial in progress.trials) == 50
    # About 0.5 s and 0.05 s on an idle machine.
    assert first < 15.0 and later < 2.0
