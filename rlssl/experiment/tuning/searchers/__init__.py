"""Chooses the points of a search, and gives Tune each of them with every seed."""

# Saved searches of earlier versions name these classes here.
from rlssl.experiment.tuning.searchers.point_searcher import EarlyStops, PointSearcher
from rlssl.experiment.tuning.searchers.points import (
    ListedPoints,
    Point,
    PointSource,
    label_of,
    trial_key,
    write_points,
)

__all__ = [
    "EarlyStops",
    "ListedPoints",
    "Point",
    "PointSearcher",
    "PointSource",
    "label_of",
    "trial_key",
    "write_points",
]
