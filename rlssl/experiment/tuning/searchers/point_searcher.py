"""Gives Tune the trials of a search: each point once, then repeated with every seed."""

import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher

from rlssl.analysis.objective import Objective
from rlssl.experiment.tuning.searchers.points import Point, PointSource, trial_key
from rlssl.experiment.tuning.trial_config import SEED_KEY

#: Attributes of a `PointSearcher` that change during a search.
_STATE = ("source", "points", "num_trials", "point_of_trial", "ended", "skipped")


class EarlyStops(Protocol):
    """A scheduler that stops whole points."""

    def score_at_stop(self, point: Point) -> float | None:
        """The score by which the point was stopped, NaN if a seed failed; None: not stopped."""


class PointSearcher(Searcher):
    """Repeats every point of a search with the same seeds, and tells the source the mean.

    Tune takes each seed of a point as a trial. A point whose seeds all ended is told to the source
    once, with the mean over its seeds of the last result. If the scheduler stopped the point, it is
    the mean at the last rung that all seeds reached, because some seeds trained further. A point
    with a failed seed has no score.

    Args:
        source: Chooses the points.
        seeds: The seeds of every point.
        objective: What the score of a trial is.
        early_stops: The scheduler, if it stops points.
        ended: Scores of trials that ran before and that Tune does not get, by `trial_key`.
        max_points: Number of points that run at the same time; None: Tune decides.
    """

    def __init__(
        self,
        source: PointSource,
        seeds: Sequence[int],
        *,
        objective: Objective,
        early_stops: EarlyStops | None = None,
        ended: Mapping[str, float | None] | None = None,
        max_points: int | None = None,
    ) -> None:
        super().__init__()
        self.skipped = dict(ended or {})
        self.max_points = max_points
        self.source, self.seeds = source, list(seeds)
        self.objective, self.early_stops = objective, early_stops
        # The points that Tune got, and the number of trials that it got.
        self.points: list[Point] = []
        self.num_trials = 0
        # Trial id -> index of its point; and index of a point -> trial -> score.
        self.point_of_trial: dict[str, int] = {}
        self.ended: dict[int, dict[str, float | None]] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Tune's hook; accepted, because the points and the metric are known already."""
        del metric, mode, config, spec
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tune's hook; true: Tune limits the trials that wait, not those that run."""
        del max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Tune's hook: the config of the next trial, without the keys that all trials share."""
        while True:
            index, number = divmod(self.num_trials, len(self.seeds))
            if index == len(self.points):
                point = None if self._is_full() else self.source.next_point()
                if point is None:
                    return Searcher.FINISHED if self.source.is_exhausted else None
                self.points.append(point)
            self.num_trials += 1
            point, seed = self.points[index], self.seeds[number]
            key = trial_key(point, seed)
            if key not in self.skipped:
                self.point_of_trial[trial_id] = index
                return {**point, SEED_KEY: seed}
            self._end(index, key, self.skipped[key])

    def _is_full(self) -> bool:
        """Whether as many points run as may run at the same time."""
        num_ended = sum(len(seeds) == len(self.seeds) for seeds in self.ended.values())
        return self.max_points is not None and len(self.points) - num_ended >= self.max_points

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune's hook; ``result`` is the last one of the trial, None if it never began."""
        score = None if error or result is None else self.objective.score(result)
        self._end(self.point_of_trial[trial_id], trial_id, score)

    def _end(self, index: int, trial: str, score: float | None) -> None:
        ended = self.ended.setdefault(index, {})
        ended[trial] = score
        if len(ended) == len(self.seeds):
            self.source.told(self.points[index], self._score(index))

    def _score(self, index: int) -> float | None:
        if self.early_stops is not None:
            stopped = self.early_stops.score_at_stop(self.points[index])
            if stopped is not None:
                return stopped if math.isfinite(stopped) else None
        scores = [score for score in self.ended[index].values() if score is not None]
        return sum(scores) / len(scores) if len(scores) == len(self.seeds) else None

    def save(self, checkpoint_path: str) -> None:
        """Tune's hook; called with every snapshot of the experiment."""
        Path(checkpoint_path).write_bytes(pickle.dumps({key: vars(self)[key] for key in _STATE}))

    def restore(self, checkpoint_path: str) -> None:
        """Tune's hook; called on a resume."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))
        # Earlier versions saved only the keys.
        if not isinstance(self.skipped, dict):
            self.skipped = dict.fromkeys(self.skipped)
