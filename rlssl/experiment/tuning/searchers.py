"""Gives Tune the trials of a search: each point once, then repeated with every seed."""

import functools
import json
import pickle
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.tune.search import Searcher

from rlssl.analysis.labels import point_labels
from rlssl.analysis.objective import Objective
from rlssl.analysis.points import read_points
from rlssl.experiment.spec.search_space import point_key
from rlssl.experiment.tuning.trainable import SEED_KEY
from rlssl.run_files import POINTS_FILE
from rlssl.system.files import replace_text

#: Dotted path -> value.
Point = Mapping[str, Any]

#: Attributes of a `PointSearcher` that change during a search.
_STATE = ("source", "points", "num_trials", "point_of_trial", "ended", "skipped")


def write_points(folder: Path, points: Sequence[Point], *, search_seed: int) -> None:
    """Writes ``points.json`` into the run's folder: the values and the label of every point."""
    labels = point_labels(points)
    listed = [
        {"index": index, "values": dict(point), "label": label}
        for index, (point, label) in enumerate(zip(points, labels, strict=True))
    ]
    text = json.dumps({"search_seed": search_seed, "points": listed}, indent=2)
    replace_text(folder / POINTS_FILE, text)


def label_of(folder: Path, point: Point) -> str:
    """The label of a point in the run's ``points.json``; without the file, of the point alone."""
    path = folder / POINTS_FILE
    written = path.stat().st_mtime_ns if path.is_file() else 0
    return _labels(folder, written).get(point_key(point)) or point_labels([point])[0]


@functools.lru_cache(maxsize=1)
def _labels(folder: Path, written: int) -> dict[str, str]:
    del written  # a new time makes the cache read the file again
    return {point_key(point.values): point.label for point in read_points(folder)}


def trial_key(point: Point, seed: int) -> str:
    """A point with a seed, as text: the same for the trials of a run and of its continuation.

    Example:
        >>> trial_key({"training.lr": 0.1}, 3)
        '{"training.lr": 0.1} 3'
    """
    return f"{point_key(point)} {seed}"


class PointSource(Protocol):
    """Chooses the points of a search. It must be picklable, with all it has been told."""

    def next_point(self) -> Point | None:
        """The next point; None if there is none at the moment, or never again."""

    def told(self, point: Point, score: float | None) -> None:
        """Takes the result of a point: the mean over its seeds; None if a seed failed."""


class ListedPoints:
    """Points that are known before the search begins: a grid, and random draws.

    Example:
        >>> source = ListedPoints([{"training.lr": 0.1}])
        >>> source.next_point(), source.next_point()
        ({'training.lr': 0.1}, None)
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = list(points)
        self.num_given = 0

    def next_point(self) -> Point | None:
        """The next point of the list."""
        if self.num_given == len(self.points):
            return None
        self.num_given += 1
        return self.points[self.num_given - 1]

    def told(self, point: Point, score: float | None) -> None:
        """Does nothing: the points do not depend on results."""


class EarlyStops(Protocol):
    """A scheduler that stops whole points."""

    def score_at_stop(self, point: Point) -> float | None:
        """The score by which the point was stopped; None if it was not stopped."""


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
        ended: Keys (see `trial_key`) of trials that ran before, and that Tune does not get.
    """

    def __init__(
        self,
        source: PointSource,
        seeds: Sequence[int],
        *,
        objective: Objective,
        early_stops: EarlyStops | None = None,
        ended: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.skipped = frozenset(ended)
        self.source, self.seeds = source, list(seeds)
        self.objective, self.early_stops = objective, early_stops
        # The points that Tune got, and the number of trials that it got.
        self.points: list[Point] = []
        self.num_trials = 0
        # Trial id -> index of its point; and index of a point -> trial id -> score.
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
                point = self.source.next_point()
                if point is None:
                    return None
                self.points.append(point)
            self.num_trials += 1
            point, seed = self.points[index], self.seeds[number]
            if trial_key(point, seed) not in self.skipped:
                self.point_of_trial[trial_id] = index
                return {**point, SEED_KEY: seed}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune's hook; ``result`` is the last one of the trial, None if it never began."""
        index = self.point_of_trial[trial_id]
        ended = self.ended.setdefault(index, {})
        ended[trial_id] = None if error or result is None else self.objective.score(result)
        if len(ended) == len(self.seeds):
            self.source.told(self.points[index], self._score(index))

    def _score(self, index: int) -> float | None:
        if self.early_stops is not None:
            stopped = self.early_stops.score_at_stop(self.points[index])
            if stopped is not None:
                return stopped
        scores = [score for score in self.ended[index].values() if score is not None]
        return sum(scores) / len(scores) if len(scores) == len(self.seeds) else None

    def save(self, checkpoint_path: str) -> None:
        """Tune's hook; called with every snapshot of the experiment."""
        Path(checkpoint_path).write_bytes(pickle.dumps({key: vars(self)[key] for key in _STATE}))

    def restore(self, checkpoint_path: str) -> None:
        """Tune's hook; called on a resume."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))
