"""What a study has suggested and was told, in the order of events, in the run's ``points.json``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlssl.analysis.labels import point_labels
from rlssl.analysis.points import point_key
from rlssl.experiment.tuning.searchers.points import Point
from rlssl.run_files import POINTS_FILE
from rlssl.system.files import replace_text
from rlssl.system.json_output import readable_json


@dataclass(frozen=True)
class Told:
    """A result that the study was told.

    Args:
        index: Index of the point.
        score: Mean over the seeds; None if a seed failed.
        after: Number of points that had been suggested before.
    """

    index: int
    score: float | None
    after: int


@dataclass
class Journal:
    """The history of a study. From it, the study is built again after a restart.

    The file is replaced as a whole with each event, so that a kill leaves the state before or
    after the event.

    Args:
        folder: The run's folder.
        seed: Seed of the search.
        points: The suggested points.
        told: The results, in the order in which the study was told.
        earlier: Points and scores of an earlier sweep, which the study began with.
    """

    folder: Path
    seed: int
    points: list[Point] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    earlier: list[tuple[Point, float]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path, seed: int) -> "Journal":
        """Reads the journal of a run; an empty one if the run has none.

        Raises:
            ValueError: If the file is damaged; names it.
        """
        path = folder / POINTS_FILE
        if not path.is_file():
            return cls(folder, seed)
        try:
            read = json.loads(path.read_bytes())
            return cls(
                folder,
                seed,
                [dict(entry["values"]) for entry in read["points"]],
                [Told(**entry) for entry in read.get("told", [])],
                [(dict(one["values"]), one["score"]) for one in read.get("earlier", [])],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error

    def write(self) -> None:
        """Replaces the file.

        Raises:
            OSError: If it cannot be written; the file is as before.
        """
        labels = _labels(self.points)
        document: dict[str, Any] = {
            "search_seed": self.seed,
            "points": [
                {"index": index, "values": dict(point), "label": label}
                for index, (point, label) in enumerate(zip(self.points, labels, strict=True))
            ],
            "told": [vars(one) for one in self.told],
        }
        if self.earlier:
            document["earlier"] = [
                {"values": dict(point), "score": score} for point, score in self.earlier
            ]
        replace_text(self.folder / POINTS_FILE, readable_json(document, indent=2))

    @property
    def keys(self) -> set[str]:
        """The points that need not be suggested again, as `point_key` gives them."""
        return {point_key(point) for point in [*self.points, *(one for one, _ in self.earlier)]}


def _labels(points: Sequence[Point]) -> list[str]:
    """A label for each point, which does not change when further points follow."""
    labels: list[str] = []
    for point in points:
        (label,) = point_labels([point])
        labels.append(label if label not in labels else f"{label} #{len(labels)}")
    return labels
