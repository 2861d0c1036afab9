"""The median stopping rule judges points by the mean over their seeds, at the same env steps."""

from pathlib import Path

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from rlssl.analysis.objective import Objective
from tests.experiment.tuning.controllers import Sweep, median

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE


def made(folder: Path, num_points: int, seeds: list[int], **changes: object) -> Sweep:
    points = [{"training.lr": 0.1 * (1 + index)} for index in range(num_points)]
    return Sweep(folder, points, seeds, make=median, **changes)


def test_a_point_whose_best_mean_is_below_the_median_of_running_averages_stops(
    tmp_path: Path,
) -> None:
    sweep = made(tmp_path, 5, [0])
    for index, scores in enumerate([(10, 20, 30), (8, 8, 8), (6, 6, 6)]):
        for rung, score in zip((100, 200, 300), scores, strict=True):
            # At most two others have got as far, and three are needed.
            assert sweep.report(index, 0, rung, score) == CONTINUE
    assert sweep.report(3, 0, 100, 7.0) == STOP  # the median of 10, 8 and 6 is 8
    # The median of 10, 8, 6 and 7 is 7.5.
    assert sweep.report(4, 0, 100, 9.0) == CONTINUE
    # The averages of the others are 15, 8 and 6; the best is still 9.
    assert sweep.report(4, 0, 200, 1.0) == CONTINUE
    assert sweep.scheduler.score_at_stop({"training.lr": 0.4}) == 7.0


def test_one_seed_below_the_median_waits_for_the_others(tmp_path: Path) -> None:
    sweep = made(tmp_path, 3, [7, 8], min_points=2)
    for index, score in ((0, 10.0), (1, 6.0)):
        for seed in (7, 8):
            sweep.report(index, seed, 100, score)
    assert sweep.report(2, 7, 100, 0.0) == CONTINUE
    assert sweep.report(2, 8, 130, 17.0) == CONTINUE  # the mean is 8.5, the median 8
    assert sweep.report(2, 7, 200, 0.0) == CONTINUE
    assert sweep.report(2, 8, 200, 0.0) == CONTINUE  # no other point has got as far


def test_the_largest_average_is_behind_in_mode_min(tmp_path: Path) -> None:
    sweep = made(tmp_path, 3, [0], min_points=2, objective=Objective(mode="min"))
    sweep.report(0, 0, 100, 1.0)
    sweep.report(1, 0, 100, 3.0)
    assert sweep.report(2, 0, 100, 2.5) == STOP


@pytest.mark.parametrize("seed", range(5))
def test_decisions_equal_a_slow_reference(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rungs, num_points = (100, 200, 300), 6
    scores = rng.normal(size=(num_points, len(rungs), 2))
    sweep = made(tmp_path, num_points, [0, 1])
    stopped: set[int] = set()
    passed: dict[int, list[float]] = {index: [] for index in range(num_points)}
    for at, rung in enumerate(rungs):
        for index in rng.permutation(num_points):
            if index in stopped:
                continue
            sweep.report(index, 0, rung, scores[index, at, 0])
            decision = sweep.report(index, 1, rung, scores[index, at, 1])
            passed[index].append(scores[index, at].mean())
            others = [
                np.mean(means[: at + 1])
                for other, means in passed.items()
                if other != index and len(means) > at
            ]
            is_behind = len(others) >= 3 and max(passed[index]) < np.median(others)
            assert decision == (STOP if is_behind else CONTINUE)
            if is_behind:
                stopped.add(index)
    assert stopped
