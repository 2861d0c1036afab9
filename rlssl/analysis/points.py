"""The points of a sweep, as its folder lists them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlssl.run_files import POINTS_FILE, SCHEDULER_FILE


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
    path = Path(folder, POINTS_FILE)
    if not path.is_file():
        return []
    try:
        document = json.loads(path.read_bytes())
        points = [
            Point(one["index"], dict(one["values"]), one["label"]) for one in document["points"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    return sorted(points, key=lambda point: point.index)


def read_stops(folder: str | Path) -> dict[str, int]:
    """The points that the scheduler stopped, from ``scheduler.json`` in the folder of a run.

    Returns:
        Point as JSON with sorted keys -> env steps of the rung at which it was stopped.

    Raises:
        ValueError: If the file is damaged; names it.

    Example:
        >>> read_stops("/nowhere")
        {}
    """
    path = Path(folder, SCHEDULER_FILE)
    if not path.is_file():
        return {}
    try:
        points = json.loads(path.read_bytes())["points"]
        stops = [(one["values"], one["stopped_at"]) for one in points]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    return {
        json.dumps(values, sort_keys=True): int(rung) for values, rung in stops if rung is not None
    }
