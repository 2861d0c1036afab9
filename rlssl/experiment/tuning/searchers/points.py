"""The points of a search: where they come from, and how a run's folder lists them."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlssl.analysis.labels import point_labels
from rlssl.analysis.points import point_key, read_points
from rlssl.run_files import POINTS_FILE
from rlssl.system.files import replace_text
from rlssl.system.json_output import readable_json

#: Dotted path -> value.
Point = Mapping[str, Any]


def write_points(
    folder: Path, points: Sequence[Point], *, search_seed: int, are_members: bool = False
) -> None:
    """Writes ``points.json`` into the run's folder: the values and the label of every point.

    Args:
        folder: The run's folder.
        points: The points.
        search_seed: The seed of the draws.
        are_members: Whether they are members of a population, whose values change in the run.
    """
    labels = point_labels(points)
    if are_members:
        labels = [f"member {index}, {label} at first" for index, label in enumerate(labels)]
    listed = [
        {"index": index, "values": dict(point), "label": label}
        for index, (point, label) in enumerate(zip(points, labels, strict=True))
    ]
    text = readable_json({"search_seed": search_seed, "points": listed}, indent=2)
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

    @property
    def is_exhausted(self) -> bool:
        """Whether there will never be another point."""

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

    @property
    def is_exhausted(self) -> bool:
        """Whether every point of the list was given."""
        return self.num_given == len(self.points)

    def told(self, point: Point, score: float | None) -> None:
        """Does nothing: the points do not depend on results."""
