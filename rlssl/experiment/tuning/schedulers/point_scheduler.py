"""The base of schedulers that stop bad points of a search, which several seeds repeat."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.result import DONE
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.utils import flatten_dict

from rlssl.analysis.objective import Objective
from rlssl.analysis.points import point_key
from rlssl.experiment.tuning.trial_config import SEED_KEY, point_of
from rlssl.run_files import SCHEDULER_FILE
from rlssl.system.files import replace_text
from rlssl.system.json_output import readable_json

_logger = logging.getLogger(__name__)

#: Seconds after which a file that could not be written is tried again.
_RETRY_S = 10.0

#: Of more rungs, only the first and the last ones are named.
_MOST_NAMED = 3


@dataclass
class PointScores:
    """What a scheduler knows about a point."""

    values: Mapping[str, Any]
    # Rung -> seed -> score.
    scores: dict[int, dict[int, float]]
    # Rung -> mean over the seeds, from the moment on when all seeds had reached the rung.
    means: dict[int, float] = field(default_factory=dict)
    stopped_at: int | None = None


class PointScheduler(FIFOScheduler):
    """Compares points at rungs, and stops those that a subclass finds to be behind the others.

    Every seed records its score at each rung and trains on. When the last seed of a point has
    reached a rung, the point is compared with the other points that have passed this rung. If
    ``is_behind`` says so, the whole point stops: running seeds after their current iteration, with
    a checkpoint; waiting seeds at once. A seed that failed is not waited for. A seed that has ended
    (because it solved the task, say) counts at every later rung with its last score.

    The rungs are saved in ``scheduler.json`` in the run's folder, because Tune saves no scheduler.

    Args:
        objective: What the search maximizes or minimizes.
        rungs: Env steps, increasing.
        seeds: The seeds of every point.
        folder: The run's folder. If it has a ``scheduler.json``, the scheduler continues from it.
    """

    #: Name of the method, for the terminal.
    name = ""

    def __init__(
        self,
        *,
        objective: Objective,
        rungs: Sequence[int],
        seeds: Sequence[int],
        folder: Path,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.rungs = list(rungs)
        self.seeds = list(seeds)
        self.path = folder / SCHEDULER_FILE
        self.points = self._read()
        self._is_saved, self._next_save = True, 0.0
        # Trial id -> status at the last look; the key of its point.
        self._statuses: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._failed: dict[str, set[int]] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Tune's hook."""
        del tune_controller
        point = self._point(trial)
        self._record(point, trial.config[SEED_KEY], result, result["env_steps"])
        self._judge(point)
        self._save()
        return TrialScheduler.CONTINUE if point.stopped_at is None else TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Tune's hook, called before trials start: stops the waiting trials of stopped points."""
        for trial in list(tune_controller.get_trials()):
            if self._statuses.get(trial.trial_id) != trial.status:
                self._statuses[trial.trial_id] = trial.status
                self._look_at(trial)
            if trial.status == Trial.PENDING and self._point(trial).stopped_at is not None:
                # `done` marks a trial that came to its end; an interrupt leaves it unset.
                trial.update_last_result({**trial.last_result, DONE: True})
                tune_controller.stop_trial(trial)
        self._save()
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen

    def is_behind(self, point: "PointScores", others: Sequence["PointScores"], rung: int) -> bool:
        """Whether a point has to stop.

        Args:
            point: A point whose last seed has reached the rung.
            others: The other points that have passed the rung.
            rung: Env steps.
        """
        raise NotImplementedError

    def score_at_stop(self, point: Mapping[str, Any]) -> float | None:
        """The mean over seeds by which a point was stopped; None if it was not stopped.

        NaN if a seed failed before: the mean is over the other seeds only.
        """
        known = self.points.get(point_key(point))
        if known is None or known.stopped_at is None:
            return None
        has_all = set(self.seeds) <= set(known.scores.get(known.stopped_at, ()))
        return known.means[known.stopped_at] if has_all else math.nan

    @property
    def words(self) -> str:
        """The scheduler for the terminal."""
        return in_words(self.name, self.objective.metric, self.rungs)

    def debug_string(self) -> str:
        """A line for the terminal."""
        stopped = sum(point.stopped_at is not None for point in self.points.values())
        return f"{self.words}: {stopped} points stopped"

    def _point(self, trial: Trial) -> PointScores:
        key = self._keys.get(trial.trial_id)
        if key is None:
            key = self._keys[trial.trial_id] = point_key(point_of(trial.config))
        if key not in self.points:
            self.points[key] = PointScores(
                point_of(trial.config), {rung: {} for rung in self.rungs}
            )
        return self.points[key]

    def _look_at(self, trial: Trial) -> None:
        """Takes note of a trial whose status changed; it may be the last one that is waited for."""
        point, seed = self._point(trial), trial.config[SEED_KEY]
        failed = self._failed.setdefault(self._keys[trial.trial_id], set())
        if trial.status == Trial.ERROR:
            failed.add(seed)
        else:
            failed.discard(seed)
        if trial.status == Trial.TERMINATED and trial.last_result.get(DONE):
            self._record(point, seed, flatten_dict(trial.last_result), math.inf)
        self._judge(point)

    def _record(
        self, point: PointScores, seed: int, result: Mapping[str, Any], env_steps: float
    ) -> None:
        score = self.objective.score(result)
        if point.stopped_at is not None or score is None:
            return
        for rung, scores in point.scores.items():
            if env_steps >= rung and seed not in scores:
                scores[seed] = score
                self._is_saved = False

    def _judge(self, point: PointScores) -> None:
        """Compares the point with the others at every rung that its last seed has reached."""
        waited_for = set(self.seeds) - self._failed.get(point_key(point.values), set())
        for rung, scores in point.scores.items():
            if point.stopped_at is not None or not scores or not waited_for <= set(scores):
                return
            if rung in point.means:
                continue
            point.means[rung] = float(np.mean(list(scores.values())))
            self._is_saved = False
            others = [
                other
                for other in self.points.values()
                if other is not point and rung in other.means
            ]
            if self.is_behind(point, others, rung):
                point.stopped_at = rung

    def _save(self) -> None:
        if self._is_saved or time.monotonic() < self._next_save:
            return
        points = [vars(point) for point in self.points.values()]
        try:
            replace_text(self.path, readable_json({"points": points}, indent=2))
        except OSError as error:
            self._next_save = time.monotonic() + _RETRY_S
            _logger.warning("cannot write %s: %s. Trying again.", self.path, error)
        else:
            self._is_saved = True

    def _read(self) -> dict[str, PointScores]:
        if not self.path.is_file():
            return {}
        try:
            read = [self._parse(one) for one in json.loads(self.path.read_bytes())["points"]]
        except (KeyError, TypeError, ValueError) as error:
            _logger.warning(
                "%s is damaged (%s: %s). The scheduler judges again, from the results to come.",
                self.path, type(error).__name__, error,
            )  # fmt: skip
            return {}
        return {point_key(point.values): point for point in read}

    def _parse(self, saved: Mapping[str, Any]) -> PointScores:
        scores = saved["scores"]
        of_rungs = {
            # A run that trains further has new rungs.
            rung: {int(seed): float(score) for seed, score in scores.get(str(rung), {}).items()}
            for rung in self.rungs
        }
        means = {int(rung): float(mean) for rung, mean in saved["means"].items()}
        return PointScores(dict(saved["values"]), of_rungs, means, saved["stopped_at"])


def in_words(name: str, metric: str, rungs: Sequence[int]) -> str:
    """A scheduler for the terminal.

    Example:
        >>> in_words("ASHA", "success_rate", [1000, 4000])
        'ASHA by success_rate at 1,000 and 4,000 env steps'
        >>> in_words("PBT", "area", range(100, 1000, 100))
        'PBT by area at 100, 200, 300, ... and 900 env steps'
    """
    *first, last = [f"{rung:,}" for rung in rungs] or ["no"]
    if len(first) > _MOST_NAMED:
        first = [*first[:_MOST_NAMED], "..."]
    words = f"{', '.join(first)} and {last}" if first else last
    return f"{name} by {metric} at {words} env steps"
