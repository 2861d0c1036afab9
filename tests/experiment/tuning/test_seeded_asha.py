"""ASHA ranks points by the mean over their seeds."""

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from rlssl.experiment.tuning.seeded_asha import SeededASHA

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE


def make() -> SeededASHA:
    return SeededASHA(
        metric="score", mode="max", grace_env_steps=100, max_env_steps=1000, reduction_factor=2
    )


def report(scheduler: SeededASHA, lr: float, seed: int, env_steps: int, score: float) -> Any:
    trial = SimpleNamespace(trial_id=f"{lr}-{seed}", config={"training.lr": lr, "seed": seed})
    return scheduler.on_trial_result(None, trial, {"env_steps": env_steps, "score": score})


def test_rungs_grow_by_the_factor_below_the_maximum() -> None:
    assert make().rungs == [100, 200, 400, 800]


def test_lucky_seed_of_a_bad_point_is_stopped() -> None:
    scheduler = make()
    assert report(scheduler, 0.1, 0, 100, 5.0) == CONTINUE  # no other point yet
    assert report(scheduler, 0.2, 0, 100, 1.0) == STOP  # mean 1 < 5
    # The second seed scores 7, above the other point's 5, but the point's mean is (1 + 7) / 2 = 4.
    assert report(scheduler, 0.2, 1, 100, 7.0) == STOP


def test_good_point_continues_and_each_rung_counts_once() -> None:
    scheduler = make()
    report(scheduler, 0.2, 0, 100, 1.0)
    assert report(scheduler, 0.1, 0, 100, 5.0) == CONTINUE
    assert report(scheduler, 0.1, 0, 150, -9.0) == CONTINUE
    assert scheduler.recorded[100]["[('training.lr', 0.1)]"] == {"0.1-0": 5.0}


def test_no_trial_stops_before_the_grace_or_without_a_score() -> None:
    scheduler = make()
    report(scheduler, 0.1, 0, 100, 5.0)
    assert report(scheduler, 0.2, 0, 99, 1.0) == CONTINUE
    assert report(scheduler, 0.2, 0, 100, float("nan")) == CONTINUE
