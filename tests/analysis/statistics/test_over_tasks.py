"""Aggregates over tasks equal numbers calculated by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from rlssl.analysis.objective import Objective, ObjectiveMeter
from rlssl.analysis.statistics import (
    aggregates,
    area_under_curve,
    dmc_normalized,
    human_normalized,
    mean_of_tasks,
    median_of_tasks,
    optimality_gap,
    performance_profile,
    performance_profile_bounds,
)

SCORES = [[0.0, 0.2, 0.4, 0.2], [1.0, 1.2, 0.8, 1.0], [5.0, 5.0, 5.0, 5.0]]


def test_means_and_medians_are_of_the_means_of_tasks() -> None:
    # Means of the tasks: 0.2, 1.0, 5.0.
    assert median_of_tasks(SCORES) == pytest.approx(1.0)
    assert mean_of_tasks(SCORES) == pytest.approx(6.2 / 3)


def test_the_median_of_tasks_is_not_the_median_of_runs() -> None:
    # Runs 0, 0, 9 and 1, 1, 1: means 3 and 1, median 2. The median of the six runs is 1.
    assert median_of_tasks([[0, 0, 9], [1, 1, 1]]) == 2.0


def test_scores_above_the_target_do_not_close_the_optimality_gap() -> None:
    # 1 + 0.8 + 0.6 + 0.8 of the first task, 0.2 of the second: 3.4 of 12 runs.
    assert optimality_gap(SCORES) == pytest.approx(3.4 / 12)
    assert optimality_gap([[0.0, 4.0]], target=2.0) == 1.0


def test_normalized_scores_by_hand() -> None:
    # Pong: (-16.5 + 20.7) / 35.3.
    assert human_normalized(-16.5, random=-20.7, human=14.6) == pytest.approx(4.2 / 35.3)
    assert dmc_normalized([[0.0, 500.0]]).tolist() == [[0.0, 0.5]]


def test_the_area_is_the_mean_height_up_to_the_budget() -> None:
    # Trapezoids 10 * 1, 10 * 3 and 5 * 4 over 25 env steps.
    steps, returns = [0, 10, 20, 30], [0.0, 2.0, 4.0, 4.0]
    assert area_under_curve(steps, returns, until=25) == pytest.approx(60 / 25)


def test_the_area_equals_that_of_the_objective() -> None:
    generator = np.random.default_rng(0)
    steps, returns = np.cumsum(generator.integers(1, 9, size=30)), generator.normal(size=30)
    meter = ObjectiveMeter(Objective("area"))
    for step, height in zip(steps, returns, strict=True):
        meter.add({"env_steps": int(step), "episode_return_mean": float(height)})
    assert area_under_curve(steps, returns, until=steps[-1]) == pytest.approx(meter.value)


def test_aggregates_have_intervals_from_three_seeds_on() -> None:
    found, cautions = aggregates(SCORES, num_resamples=200)
    assert [one.name for one in found] == ["IQM", "median", "mean", "optimality gap"]
    for one in found:
        assert one.interval is not None
        assert one.interval.low <= one.value <= one.interval.high
    assert [one.code for one in cautions] == ["few_seeds"]
    without, cautions = aggregates([[0.0, 1.0]])
    assert [one.interval for one in without] == [None] * 4
    assert [one.code for one in cautions] == ["two_seeds"]


def test_aggregates_of_one_resampling_agree_with_the_median_by_hand() -> None:
    # No spread within a task: every resample equals the experiment.
    found, _ = aggregates([[0.1] * 3, [0.5] * 3, [2.0] * 3], num_resamples=20)
    assert {one.name: one.interval for one in found}["median"] == (0.5, 0.5)


def test_bounds_of_a_profile_hold_the_profile() -> None:
    thresholds = np.linspace(-0.5, 5.5, 13)
    low, high = performance_profile_bounds(SCORES, thresholds, num_resamples=200)
    profile = performance_profile(SCORES, thresholds)
    assert (low <= profile).all()
    assert (profile <= high).all()
    assert (low < high).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_of_tasks([[1, 2], [3]]), "same number of seeds for every task; got 1, 2"),
        (lambda: median_of_tasks([1, 2]), "num_tasks, num_seeds"),
        (lambda: dmc_normalized([1001.0]), "returns of dm_control, in .0, 1000.; got 1001"),
        (lambda: dmc_normalized([-21.0]), "got -21"),
        (lambda: human_normalized([1.0], random=2, human=2), "must differ; got 2 twice"),
        (lambda: area_under_curve([0, 1], [0, 1, 2], until=1), "one length; got 2 and 3"),
        (lambda: area_under_curve([0, 0], [0, 1], until=1), "strictly increasing"),
        (lambda: area_under_curve([0, 5], [0, 1], until=6), r"until must be in \(0, 5\]"),
        (lambda: area_under_curve([0, 5], [0, np.nan], until=5), "finite"),
        (lambda: aggregates([[np.nan, 1.0]]), "finite"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
