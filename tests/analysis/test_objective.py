"""One number for a trial: a key of its results, of the last ones, or the area of its curve."""

import math
from typing import Any

import pytest

from rlssl.analysis.objective import Objective, ObjectiveMeter
from rlssl.analysis.results import read_sweep
from rlssl.analysis.table import sweep_table, write_table_csv


def followed(objective: Objective, results: list[dict[str, Any]]) -> float:
    meter = ObjectiveMeter(objective)
    for result in results:
        # A trial that was restored from a checkpoint continues with the saved state.
        meter = ObjectiveMeter(objective, meter.state)
        meter.add(result)
    return meter.value


def row(env_steps: int, score: float, **others: Any) -> dict[str, Any]:
    return {"env_steps": env_steps, "episode_return_mean": score, **others}


def test_the_last_values_are_averaged_and_missing_ones_are_passed_over() -> None:
    results = [row(1, math.nan), row(2, 100.0), row(3, 1.0), {"env_steps": 4}, row(5, 2.0)]
    assert followed(Objective(last=2), results) == 1.5  # (1 + 2) / 2
    assert followed(Objective(last=9), results) == pytest.approx(103 / 3)
    assert followed(Objective(), results) == 2.0
    assert math.isnan(followed(Objective("success_rate"), results))


def test_an_evaluation_counts_once_although_results_repeat_it() -> None:
    def evaluated(at: int, score: float) -> dict[str, Any]:
        return {"evaluation": {"env_steps": at, "episode_return_mean": score}}

    scores = [(10, 1.0), (10, 1.0), (10, 1.0), (20, 4.0), (30, 4.0), (30, 4.0)]
    results = [
        row(10 + number, 0.0, **evaluated(*one)) for number, one in enumerate(scores)
    ]  # evaluations: 1, 4, 4
    objective = Objective("evaluation/episode_return_mean", last=3)
    assert followed(objective, results) == 3.0
    flat = [{"env_steps": 1, "evaluation/episode_return_mean": score} for score in (1.0, 1.0, 2.0)]
    assert followed(objective, flat) == 1.5  # of an earlier version: two different values


def test_the_area_is_the_mean_return_over_env_steps() -> None:
    results = [row(0, math.nan), row(100, 0.0), row(200, 10.0), row(400, 10.0)]
    # (100 * 5 + 200 * 10) / 300 from the first return on.
    assert followed(Objective("area"), results) == pytest.approx(2500 / 300)
    assert followed(Objective("area"), results[:2]) == 0.0


def test_the_score_of_a_result_without_the_objective_is_its_metric() -> None:
    assert Objective("a/b").score({"a": {"b": 2}}) == 2.0
    assert Objective("a/b").score({"a/b": 2, "objective": 3.0}) == 3.0
    assert Objective("a/b").score({"a": 1}) is None
    assert Objective("a/b").score({"a/b": math.inf}) is None


def test_the_table_shows_the_objective_of_the_spec(
    write_trial: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, score in enumerate((1.0, 2.0, 6.0)):
        folder = write_trial(
            f"a{seed}",
            seed=seed,
            returns=[5.0],
            results=[{"env_steps": 100, "objective": score, "episode_return_mean": 5.0}],
        )
        with (folder / "spec.yaml").open("a") as spec:
            spec.write("objective: {metric: area}\n")
    (found,) = sweep_table(read_sweep(tmp_path / "sweep"))
    assert found.objective is not None and found.objective.mean == 3.0
    assert found.objective_words == "area"
    header, line = write_table_csv([found], tmp_path / "table.csv").read_text().splitlines()
    assert header.endswith(",objective_mean,objective_low,objective_high")
    assert ",3.0," in line
