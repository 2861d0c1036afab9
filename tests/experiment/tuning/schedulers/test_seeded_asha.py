"""ASHA judges points by the mean over their seeds, when the last seed has reached the rung."""

import json
import logging
from pathlib import Path

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rlssl.analysis.objective import Objective
from tests.experiment.tuning.controllers import Sweep, asha

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE

POINTS = [{"training.lr": 0.1}, {"training.lr": 0.2}]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two points with two seeds; the first has passed the rung 100 with the mean 5."""
    made = Sweep(tmp_path, POINTS, [7, 8])
    assert made.report(0, 7, 100, 4.0) == CONTINUE
    assert made.report(0, 8, 100, 6.0) == CONTINUE  # no other point yet
    return made


def statuses(sweep: Sweep, index: int) -> list[str]:
    return [sweep.trials[index, seed].status for seed in sweep.scheduler.seeds]


def test_the_last_seed_decides_and_the_whole_point_stops(sweep: Sweep) -> None:
    # The first seed trains on, although 1 < 5: the second may be better.
    assert sweep.report(1, 7, 100, 1.0) == CONTINUE
    assert sweep.report(1, 7, 190, 2.0) == CONTINUE
    # The mean is (1 + 7) / 2 = 4 < 5, although 7 > 5.
    assert sweep.report(1, 8, 100, 7.0) == STOP
    assert statuses(sweep, 1) == [Trial.RUNNING, Trial.TERMINATED]
    assert sweep.report(1, 7, 195, 99.0) == STOP  # after its current iteration
    assert statuses(sweep, 1) == [Trial.TERMINATED, Trial.TERMINATED]


def test_a_good_point_goes_on_and_no_rung_counts_twice(sweep: Sweep) -> None:
    assert sweep.report(1, 7, 100, 9.0) == CONTINUE
    assert sweep.report(1, 8, 100, 9.0) == CONTINUE
    assert sweep.report(1, 8, 150, -9.0) == CONTINUE
    (first, second) = sweep.scheduler.points.values()
    assert first.means == {100: 5.0} and second.means == {100: 9.0}
    # The first point is judged again at the next rung only.
    assert sweep.report(0, 7, 150, -9.0) == CONTINUE
    assert first.scores[100] == {7: 4.0, 8: 6.0}


def test_waiting_seeds_of_a_stopped_point_never_start(sweep: Sweep) -> None:
    sweep.report(1, 7, 100, 1.0)
    sweep.trials[1, 7].set_status(Trial.PENDING)  # its process died, and it waits for another
    assert sweep.report(1, 8, 100, 1.0) == STOP
    assert statuses(sweep, 1) == [Trial.TERMINATED, Trial.TERMINATED]
    assert sweep.trials[1, 7].last_result["done"]  # it came to its end; nothing was interrupted


def test_a_failed_seed_is_not_waited_for(sweep: Sweep) -> None:
    assert sweep.report(1, 7, 100, 1.0) == CONTINUE
    sweep.fail(1, 8)
    assert sweep.report(1, 7, 110, 1.0) == STOP


def test_a_failed_seed_that_is_resumed_is_waited_for_again(sweep: Sweep) -> None:
    sweep.fail(1, 8)
    sweep.trials[1, 8].set_status(Trial.PENDING)
    sweep.step()
    assert sweep.report(1, 7, 100, 1.0) == CONTINUE
    assert sweep.report(1, 8, 100, 1.0) == STOP


def test_a_seed_that_ended_early_counts_with_its_last_score(sweep: Sweep) -> None:
    sweep.report(1, 7, 100, 1.0)
    sweep.finish(1, 8, 50, 11.0)  # it solved the task; the mean is (1 + 11) / 2 = 6 > 5
    assert sweep.report(1, 7, 110, 1.0) == CONTINUE
    assert list(sweep.scheduler.points.values())[1].means == {100: 6.0}


def test_a_result_beyond_several_rungs_counts_at_each(sweep: Sweep) -> None:
    sweep.report(1, 7, 450, 8.0)
    sweep.report(1, 8, 250, 6.0)
    assert list(sweep.scheduler.points.values())[1].means == {100: 7.0, 200: 7.0}


def test_no_point_is_judged_before_the_grace_or_without_a_score(sweep: Sweep) -> None:
    sweep.report(1, 7, 100, 1.0)
    assert sweep.report(1, 8, 99, 1.0) == CONTINUE
    assert sweep.report(1, 8, 100, float("nan")) == CONTINUE
    assert sweep.report(1, 8, 130, 1.0) == STOP


def test_the_smallest_mean_wins_in_mode_min(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, POINTS, [0], objective=Objective(mode="min"))
    sweep.report(0, 0, 100, 2.0)
    assert sweep.report(1, 0, 100, 3.0) == STOP


def test_the_searcher_is_told_the_mean_at_the_last_rung_of_all_seeds(sweep: Sweep) -> None:
    sweep.report(1, 7, 100, 1.0)
    sweep.report(1, 7, 190, 50.0)
    sweep.report(1, 8, 100, 3.0)
    assert sweep.told == []
    sweep.report(1, 7, 195, 60.0)
    assert sweep.told == [(POINTS[1], 2.0)]  # (1 + 3) / 2, and not 60
    sweep.finish(0, 7, 1000, 8.0)
    sweep.finish(0, 8, 1000, 9.0)
    assert sweep.told[1:] == [(POINTS[0], 8.5)]


def test_the_searcher_is_told_of_no_mean_without_a_failed_seed(sweep: Sweep) -> None:
    sweep.fail(1, 7)
    sweep.report(1, 8, 100, 3.0)
    assert statuses(sweep, 1) == [Trial.ERROR, Trial.TERMINATED]  # 3 < 5
    assert sweep.told == [(POINTS[1], None)]


def test_rungs_and_decisions_survive_a_new_driver(sweep: Sweep, tmp_path: Path) -> None:
    sweep.report(1, 7, 100, 1.0)
    again = Sweep(tmp_path, POINTS, [7, 8])
    assert again.report(1, 8, 100, 2.0) == STOP  # (1 + 2) / 2 < 5: all from the file
    resumed = Sweep(tmp_path, POINTS, [7, 8])
    resumed.step()
    assert statuses(resumed, 1) == [Trial.TERMINATED, Trial.TERMINATED]
    assert statuses(resumed, 0) == [Trial.PENDING, Trial.PENDING]
    saved = json.loads((tmp_path / "scheduler.json").read_text())["points"]
    assert [(one["values"], one["stopped_at"]) for one in saved] == [
        (POINTS[0], None),
        (POINTS[1], 100),
    ]


def test_a_damaged_file_is_named_and_ended_trials_count_from_their_results(
    sweep: Sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "scheduler.json").write_text('{"points": [{')
    with caplog.at_level(logging.WARNING):
        sweep.scheduler = asha(tmp_path, [7, 8])
    assert "scheduler.json is damaged" in caplog.text
    for seed in (7, 8):
        sweep.finish(0, seed, 1000, 5.0)
    sweep.report(1, 7, 100, 1.0)
    assert sweep.report(1, 8, 100, 1.0) == STOP


def test_an_interrupted_trial_has_not_ended(sweep: Sweep) -> None:
    sweep.report(1, 7, 100, 1.0)
    sweep.report(1, 8, 50, 11.0)
    sweep.trials[1, 8].set_status(Trial.TERMINATED)  # as an interrupt leaves it
    sweep.step()
    assert list(sweep.scheduler.points.values())[1].means == {}


def test_a_full_disk_does_not_end_the_sweep(
    sweep: Sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "scheduler.json").unlink()
    (tmp_path / "scheduler.json").mkdir()  # cannot be replaced by a file, also not by root
    with caplog.at_level(logging.WARNING):
        sweep.report(1, 7, 100, 1.0)
        assert sweep.report(1, 8, 100, 1.0) == STOP
    assert caplog.text.count("cannot write") == 1
    (tmp_path / "scheduler.json").rmdir()
    sweep.scheduler._next_save = 0.0
    sweep.step()
    assert (tmp_path / "scheduler.json").is_file()
