"""A stand-in for Tune's controller: real trials, scheduler and searcher, no processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.result import DONE
from ray.tune.schedulers import TrialScheduler

from rlssl.analysis.objective import Objective
from rlssl.experiment.tuning.schedulers.median_stopping import MedianStopping
from rlssl.experiment.tuning.schedulers.point_scheduler import PointScheduler
from rlssl.experiment.tuning.schedulers.seeded_asha import SeededASHA
from rlssl.experiment.tuning.searchers import ListedPoints, PointSearcher

METRIC = "episode_return_mean"


class LocalTrial(Trial):
    """A trial that runs nowhere."""

    def set_location(self, location: Any) -> None:
        """Does nothing: there is no process."""


def asha(folder: Path, seeds: list[int], **changes: Any) -> SeededASHA:
    arguments: dict[str, Any] = {
        "objective": Objective(METRIC),
        "rungs": [100, 200, 400, 800],
        "reduction_factor": 2,
    }
    return SeededASHA(**{**arguments, **changes}, seeds=seeds, folder=folder)


def median(folder: Path, seeds: list[int], **changes: Any) -> MedianStopping:
    arguments: dict[str, Any] = {
        "objective": Objective(METRIC),
        "rungs": [100, 200, 300],
        "min_points": 3,
    }
    return MedianStopping(**{**arguments, **changes}, seeds=seeds, folder=folder)


class Sweep:
    """Runs the trials of a searcher under a scheduler; the test says what the trials report."""

    def __init__(
        self,
        folder: Path,
        points: list[dict[str, Any]],
        seeds: list[int],
        make: Callable[..., PointScheduler] = asha,
        **changes: Any,
    ) -> None:
        self.scheduler = make(folder, seeds, **changes)
        self.told: list[tuple[Any, float | None]] = []
        source = ListedPoints(points)
        source.told = lambda point, score: self.told.append((point, score))  # type: ignore[method-assign]
        self.searcher = PointSearcher(
            source, seeds, objective=Objective(METRIC), early_stops=self.scheduler
        )
        self.trials: dict[tuple[int, int], LocalTrial] = {}
        for index in range(len(points)):
            for seed in seeds:
                trial = LocalTrial("none", stub=True)
                trial.config = self.searcher.suggest(trial.trial_id) or {}
                self.trials[index, seed] = trial

    def get_trials(self) -> list[LocalTrial]:
        return list(self.trials.values())

    def stop_trial(self, trial: LocalTrial) -> None:
        result = trial.last_result if trial.status == Trial.RUNNING else None
        self.searcher.on_trial_complete(trial.trial_id, result)
        trial.set_status(Trial.TERMINATED)

    def report(self, index: int, seed: int, env_steps: int, score: float) -> str:
        """A result of a trial; returns the decision, which is carried out."""
        trial = self.trials[index, seed]
        trial.set_status(Trial.RUNNING)
        result = {"env_steps": env_steps, METRIC: score}
        decision = self.scheduler.on_trial_result(self, trial, result)
        trial.update_last_result({**result, DONE: decision == TrialScheduler.STOP})
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
        self.step()
        return decision

    def finish(self, index: int, seed: int, env_steps: int, score: float) -> None:
        """The last result of a trial that meets one of its own stop criteria."""
        trial = self.trials[index, seed]
        trial.set_status(Trial.RUNNING)
        trial.update_last_result({"env_steps": env_steps, METRIC: score, DONE: True})
        self.stop_trial(trial)
        self.step()

    def fail(self, index: int, seed: int) -> None:
        trial = self.trials[index, seed]
        self.searcher.on_trial_complete(trial.trial_id, error=True)
        trial.set_status(Trial.ERROR)
        self.step()

    def step(self) -> None:
        """What Tune does several times a second."""
        self.scheduler.choose_trial_to_run(self)
