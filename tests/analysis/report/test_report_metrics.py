"""Curves of logged metrics: means over seeds at common env steps, few enough for a page."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlssl.analysis.report import read_report
from rlssl.analysis.report.metrics import MIN_POINTS, RETURN, curves_of
from rlssl.analysis.report.page import default_metrics
from tests.analysis.report import runs
from tests.analysis.report.runs import one_run, write_run_files, write_trial


def rewrite(folder: Path, *rows: dict[str, float]) -> None:
    (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_of_two(folder: Path) -> Path:
    write_run_files(folder, [{}], ["a"], 2)
    for seed in range(2):
        write_trial(folder / f"a-{seed}", point={}, label="a", seed=seed, score=1.0, num_episodes=0)
    return folder


def test_metrics_are_averaged_between_their_points(tmp_path: Path) -> None:
    run = run_of_two(tmp_path / "run")
    first = [{"env_steps": 0, "aux/x": 0.0}, {"env_steps": 100, "aux/x": 10.0}]
    second = [{"env_steps": 0, "aux/x": 20.0}, {"env_steps": 50, "aux/x": 20.0}]
    rewrite(run / "a-0", *first)
    rewrite(run / "a-1", *second)
    curves = curves_of(read_report([run]).variants)
    steps, (mean, low, high) = curves.env_steps[0], curves.bands["aux/x"][0]
    assert (steps[0], steps[-1]) == (0, 50)  # both seeds have reported them
    assert mean[0] == pytest.approx(10.0)  # (0 + 20) / 2
    assert mean[-1] == pytest.approx(12.5)  # (5 + 20) / 2
    assert low is None and high is None  # two seeds have no interval
    assert curves.seeds["aux/x"][0][:, -1] == pytest.approx([5.0, 20.0])


def test_an_evaluation_is_shown_at_its_env_steps(tmp_path: Path) -> None:
    run = run_of_two(tmp_path / "run")
    key, at = "evaluation/episode_return_mean", "evaluation/env_steps"
    rows = [
        {"env_steps": 0, key: 1.0, at: 0},
        {"env_steps": 50, key: 1.0, at: 0},  # repeated
        {"env_steps": 100, key: 3.0, at: 100},
    ]
    for seed in range(2):
        rewrite(run / f"a-{seed}", *rows)
    curves = curves_of(read_report([run]).variants)
    middle = np.interp(50.0, curves.env_steps[0], curves.bands[key][0][0])
    assert middle == pytest.approx(2.0, abs=0.05)


def test_copies_and_timers_are_not_on_the_page(tmp_path: Path) -> None:
    copied, own = "learners/default_policy/aux/x", "learners/default_policy/vf_loss"
    only_there = "learners/default_policy/aux/y"
    timers = ["learners/__all_modules__/learner_connector/timers/connectors/a", "timers/b"]
    timers += ["env_runners/env_step_timer"]
    logged = ["aux/x", copied, only_there, own, *timers]
    run = one_run(tmp_path / "run", {"a": [1.0, 2, 3]}, metrics=logged)
    keys = [metric.key for metric in curves_of(read_report([run]).variants).metrics]
    assert keys == [RETURN, "episode_return_mean", "aux/x", only_there, own]


def test_second_plot_is_a_metric_of_all_variants_that_are_shown(tmp_path: Path) -> None:
    none = one_run(tmp_path / "none", {"a": [1.0, 2, 3]}, metrics=["time_this_iter_s"])
    both = ["aux/x", "time_this_iter_s"]
    icm = one_run(tmp_path / "icm", {"b": [4.0, 5, 6]}, metrics=both)
    found = read_report([none, icm])
    curves = curves_of(found.variants)
    assert default_metrics(curves, [0, 1]) == [RETURN, "time_this_iter_s"]
    assert default_metrics(curves, [1]) == [RETURN, "aux/x"]


def test_clocks_names_and_constants_are_no_metrics(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", {"a": [1.0, 2, 3]}, metrics=["aux/x", "pid", "timestamp"])
    keys = [metric.key for metric in curves_of(read_report([run]).variants).metrics]
    assert keys == [RETURN, "episode_return_mean", "aux/x"]


def test_a_metric_that_a_seed_lacks_has_no_curve(tmp_path: Path) -> None:
    run = run_of_two(tmp_path / "run")
    rewrite(run / "a-0", {"env_steps": 0, "aux/x": 1.0}, {"env_steps": 9, "aux/x": 2.0})
    rewrite(run / "a-1", {"env_steps": 0}, {"env_steps": 9})
    assert curves_of(read_report([run]).variants).bands["aux/x"] == {}


def test_curves_of_many_points_have_few_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlssl.analysis.report.metrics.MAX_NUMBERS", 6 * 3 * 40 * MIN_POINTS)
    run = one_run(tmp_path / "run", {"a": [1.0, 2, 3], "b": [3.0, 4, 5]}, metrics=runs.MANY_METRICS)
    curves = curves_of(read_report([run]).variants)
    numbers = sum(
        part.size
        for of_key in curves.bands.values()
        for band in of_key.values()
        for part in band
        if part is not None
    )
    assert numbers <= 6 * 3 * 40 * MIN_POINTS
    assert len(curves.metrics) + len(curves.left_out) == len(runs.MANY_METRICS) + 2
    assert curves.metrics[0].key == RETURN


def test_success_rates_have_wilson_s_interval(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", {"a": [1.0, 2, 3]}, num_episodes=0)
    for seed in range(3):
        rows = [{"env_steps": at, "success_rate": at / 9} for at in (0, 9)]
        rewrite(run / f"trial-000-seed{seed}", *rows)
    _, low, high = curves_of(read_report([run]).variants).bands["success_rate"][0]
    assert low is not None and high is not None
    assert (low[-1], high[-1]) == (pytest.approx(0.439, abs=1e-3), 1.0)
