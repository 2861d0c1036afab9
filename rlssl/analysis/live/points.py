"""The points of a running sweep: their seeds, their table, and the best of them.

This module does not import Ray; its words for the states of trials are those of Ray Tune.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rlssl.analysis.objective import Objective
from rlssl.analysis.table import format_number
from rlssl.clocks import ENV_STEPS, WORDS

#: States of a trial, as Ray Tune names them.
PENDING, RUNNING, TERMINATED, ERROR = "PENDING", "RUNNING", "TERMINATED", "ERROR"

#: The states of a trial that has ended.
ENDED = (TERMINATED, ERROR)

#: The objective of a spec that has none.
DEFAULT_OBJECTIVE = Objective()


@dataclass(frozen=True)
class SeedProgress:
    """What is known about one trial; the score is NaN before the first finished episode."""

    status: str
    env_steps: int
    score: float


@dataclass(frozen=True)
class PointProgress:
    """A point of the search, and the trials that it has so far.

    Example:
        >>> seeds = [SeedProgress("RUNNING", 500, 1.0), SeedProgress("ERROR", 100, math.nan)]
        >>> PointProgress("lr=0.1", seeds, None).state
        'running, 1 failed'
    """

    label: str
    seeds: Sequence[SeedProgress]
    stopped_at: int | None

    def count(self, *statuses: str) -> int:
        """Number of seeds with one of these statuses of Tune."""
        return sum(seed.status in statuses for seed in self.seeds)

    @property
    def score(self) -> float:
        """Mean over the seeds that have a score; NaN without any."""
        scores = [seed.score for seed in self.seeds if math.isfinite(seed.score)]
        return float(np.mean(scores)) if scores else math.nan

    @property
    def state(self) -> str:
        """In one or two words."""
        failed = self.count(ERROR)
        if self.stopped_at is not None:
            word = f"stopped at {self.stopped_at:,}"
        elif self.count(RUNNING):
            word = "running"
        elif self.count(*ENDED) == len(self.seeds):
            word = "finished" if failed < len(self.seeds) else ""
        else:
            word = "waiting"
        return ", ".join(filter(None, [word, f"{failed} failed" if failed else ""]))


def points_table(
    points: Sequence[PointProgress],
    num_rows: int,
    objective: Objective = DEFAULT_OBJECTIVE,
    clock: str = ENV_STEPS,
) -> Table:
    """The table of a running sweep.

    If there are too many points, running ones are shown first, then those with the best scores.

    Args:
        points: In the order of the search.
        num_rows: Number of rows that fit.
        objective: What the scores are.
        clock: What the steps count; see `rlssl.clocks`.
    """
    shown = list(points)
    if len(points) > num_rows:
        order = sorted(range(len(points)), key=lambda index: _interest(points[index], objective))
        shown = [points[index] for index in sorted(order[: max(num_rows - 1, 1)])]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("point")  # the only column that may be cut
    for column in ("seeds", WORDS[clock], word_for(objective)):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for point in shown:
        ended = f"{point.count(*ENDED)}/{len(point.seeds)}"
        env_steps = f"{min(seed.env_steps for seed in point.seeds):,}"
        score = format_number(point.score) if math.isfinite(point.score) else "-"
        label = Text(point.label, no_wrap=True, overflow="ellipsis")
        table.add_row(label, *map(Text, (ended, env_steps, score, point.state)))
    if len(shown) < len(points):
        table.add_row(Text(f"... and {len(points) - len(shown)} more"), "", "", "", "")
    return table


def _interest(point: PointProgress, objective: Objective) -> tuple[bool, float]:
    score = objective.sign * point.score
    return (not point.count(RUNNING), -score if math.isfinite(score) else math.inf)


def word_for(objective: Objective) -> str:
    """The header of the column of scores.

    Example:
        >>> word_for(Objective()), word_for(Objective("area"))
        ('return', 'area')
    """
    return "return" if objective.metric == DEFAULT_OBJECTIVE.metric else objective.metric


def best_point(points: Sequence[PointProgress], objective: Objective = DEFAULT_OBJECTIVE) -> str:
    """The best point so far in words; empty before the first score.

    Example:
        >>> best_point([PointProgress("lr=0.1", [SeedProgress("RUNNING", 500, 12.5)], None)])
        'Best: lr=0.1, return 12.5.'
    """
    scored = [point for point in points if math.isfinite(point.score)]
    if not scored:
        return ""
    best = max(scored, key=lambda point: objective.sign * point.score)
    return f"Best: {best.label}, {word_for(objective)} {format_number(best.score)}."
