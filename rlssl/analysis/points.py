"""The points of a sweep, as its folder lists them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rlssl.run_files import POINTS_FILE, SCHEDULER_FILE

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """A point of a search.

    Args:
        index: Its place in the search, from 0.
        values: The searched values by dotted path.
        label: Few words that tell it apart from the other points.

    Example:
        >>> Point(0, {"training.lr": 0.1}, "lr=0.1").label
        'lr=0.1'
    """

    index: int
    values: Mapping[str, Any]
    label: str


def read_points(folder: str | Path) -> list[Point]:
    """Reads ``points.json`` in the folder of a run.

    Returns:
        The points in their order; none if the run is of a version that did not write the file.

    Raises:
        ValueError: If the file is damaged; names it.

    Example:
        >>> read_points("/nowhere")
        []
    """
    points = _read_entries(
        Path(folder, POINTS_FILE),
        lambda entry: Point(int(entry["index"]), dict(entry["values"]), entry["label"]),
    )
    return sorted(points, key=lambda point: point.index)


def read_stops(folder: str | Path) -> dict[str, int]:
    """The points that the scheduler stopped, from ``scheduler.json`` in the folder of a run.

    Returns:
        Key of a point, from `point_key` -> env steps of the rung at which it was stopped.

    Raises:
        ValueError: If the file is damaged; names it.

    Example:
        >>> read_stops("/nowhere")
        {}
    """
    stops = _read_entries(Path(folder, SCHEDULER_FILE), _stop_of)
    return {point: rung for point, rung in stops if rung is not None}


def point_key(point: Mapping[str, Any]) -> str:
    """The point as text; two points have the same text only if they are the same.

    Example:
        >>> point_key({"training.lr": 0.1, "auxiliary": {}})
        '{"auxiliary": {}, "training.lr": 0.1}'
    """
    return json.dumps(point, sort_keys=True)


def _stop_of(entry: Mapping[str, Any]) -> tuple[str, int | None]:
    rung = entry["stopped_at"]
    return point_key(entry["values"]), None if rung is None else int(rung)


def _read_entries(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> list[T]:
    """The entries below "points" of a JSON file, each parsed; none without the file."""
    if not path.is_file():
        return []
    try:
        return [parse(entry) for entry in json.loads(path.read_bytes())["points"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
