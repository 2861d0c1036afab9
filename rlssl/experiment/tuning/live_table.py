"""Shows a running sweep: a live table on a terminal, else a line a minute."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlssl.analysis.objective import Objective
from rlssl.analysis.points import read_stops
from rlssl.analysis.table import format_number
from rlssl.experiment.spec.search_space import point_key
from rlssl.experiment.tuning.callbacks import duration
from rlssl.experiment.tuning.searchers import label_of
from rlssl.experiment.tuning.trial_config import point_of

#: Seconds between updates of the table, and between lines if the output is not a terminal.
_TABLE_PERIOD_S, _LINE_PERIOD_S = 1.0, 60.0

#: Lines of the terminal that are not rows: the header, the summary, the prompt.
_OTHER_LINES = 7

_ENDED = (Trial.TERMINATED, Trial.ERROR)

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
        failed = self.count(Trial.ERROR)
        if self.stopped_at is not None:
            word = f"stopped at {self.stopped_at:,}"
        elif self.count(Trial.RUNNING):
            word = "running"
        elif self.count(*_ENDED) == len(self.seeds):
            word = "finished" if failed < len(self.seeds) else ""
        else:
            word = "waiting"
        return ", ".join(filter(None, [word, f"{failed} failed" if failed else ""]))


class SweepProgress(Callback):
    """Shows every point of a sweep while it runs.

    Args:
        num_trials: Number of trials of the whole sweep.
        env_steps: Env steps of one trial, if nothing stops it earlier.
        scheduler: Name of the scheduler, for the summary; empty without one.
        objective: What the search maximizes or minimizes.
        num_ended_before: Number of trials that ended in an earlier process, and that Tune does not
            know.
    """

    def __init__(
        self,
        num_trials: int,
        env_steps: float,
        scheduler: str = "",
        objective: Objective = DEFAULT_OBJECTIVE,
        num_ended_before: int = 0,
    ) -> None:
        self.num_trials, self.env_steps, self.scheduler = num_trials, env_steps, scheduler
        self.objective, self.num_ended_before = objective, num_ended_before
        self._live: Live | None = None
        self._start: tuple[float, float] | None = None
        self._next_update = 0.0
        self._points: dict[str, tuple[str, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment, without what belongs to this process."""
        return {**self.__dict__, "_live": None, "_start": None, "_next_update": 0.0}

    def setup(self, **_: Any) -> None:
        """Tune's hook."""
        console = Console()
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        self._next_update = time.monotonic() + (_LINE_PERIOD_S if self._live is None else 0.0)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; called several times a second."""
        if self._start is None:
            self._start = (time.monotonic(), self._done(trials))
        if time.monotonic() < self._next_update:
            return
        points = self._progress(trials)
        if self._live is None:
            self._next_update = time.monotonic() + _LINE_PERIOD_S
            words = [*self._summary(trials), best_point(points, self.objective)]
            click.echo(" ".join(words).rstrip())
        else:
            self._next_update = time.monotonic() + _TABLE_PERIOD_S
            self._show(self._live, points, self._summary(trials))

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook: removes the table; the final one follows."""
        if self._live is not None:
            self._live.stop()

    def _show(self, live: Live, points: Sequence[PointProgress], summary: Sequence[str]) -> None:
        num_rows = max(live.console.height - _OTHER_LINES, 1)
        table = points_table(points, num_rows, self.objective)
        live.update(Group(table, *map(Text, summary)), refresh=True)

    def _progress(self, trials: Sequence[Trial]) -> list[PointProgress]:
        folder = Path(trials[0].storage.experiment_fs_path) if trials else Path()
        try:
            stops = read_stops(folder)
        except ValueError:
            stops = {}  # the scheduler has said so
        seeds: dict[tuple[str, str], list[SeedProgress]] = {}
        for trial in trials:
            seeds.setdefault(self._point(folder, trial), []).append(
                seed_progress(trial, self.objective)
            )
        return [
            PointProgress(label, of_point, stops.get(key))
            for (key, label), of_point in seeds.items()
        ]

    def _point(self, folder: Path, trial: Trial) -> tuple[str, str]:
        if trial.trial_id not in self._points:
            point = point_of(trial.config)
            self._points[trial.trial_id] = (point_key(point), label_of(folder, point))
        return self._points[trial.trial_id]

    def _done(self, trials: Sequence[Trial]) -> float:
        """Env steps that need not be made any more."""
        return self.num_ended_before * self.env_steps + sum(
            self.env_steps
            if trial.status in _ENDED
            else min(seed_progress(trial).env_steps, self.env_steps)
            for trial in trials
        )

    def _summary(self, trials: Sequence[Trial]) -> list[str]:
        counts = {
            word: sum(trial.status in statuses for trial in trials)
            for word, statuses in (
                ("finished", [Trial.TERMINATED]),
                ("running", [Trial.RUNNING]),
                ("failed", [Trial.ERROR]),
            )
        }
        finished = counts.pop("finished") + self.num_ended_before
        others = [f"{count} {word}" for word, count in counts.items() if count]
        words = [f"{finished} of {self.num_trials} trials finished", *others]
        scheduler = [f"{self.scheduler}."] if self.scheduler else []
        return [f"{', '.join(words)}; {self._time_left(trials)}.", *scheduler]

    def _time_left(self, trials: Sequence[Trial]) -> str:
        assert self._start is not None
        done, total = self._done(trials), self.num_trials * self.env_steps
        since, done_before = self._start
        share = f"{done / total:.0%} of the env steps"
        made, elapsed = done - done_before, time.monotonic() - since
        if made <= 0 or elapsed <= 0:
            return share
        return f"{share}, {duration((total - done) * elapsed / made)} left"


def seed_progress(trial: Trial, objective: Objective = DEFAULT_OBJECTIVE) -> SeedProgress:
    """The state of a trial and its last result."""
    result = trial.last_result or {}
    score = objective.score(result)
    return SeedProgress(
        status=trial.status,
        env_steps=int(result.get("env_steps") or 0),
        score=math.nan if score is None else score,
    )


def points_table(
    points: Sequence[PointProgress], num_rows: int, objective: Objective = DEFAULT_OBJECTIVE
) -> Table:
    """The table of a running sweep.

    If there are too many points, running ones are shown first, then those with the best scores.

    Args:
        points: In the order of the search.
        num_rows: Number of rows that fit.
        objective: What the scores are.
    """
    shown = list(points)
    if len(points) > num_rows:
        order = sorted(range(len(points)), key=lambda index: _interest(points[index], objective))
        shown = [points[index] for index in sorted(order[: max(num_rows - 1, 1)])]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("point")  # the only column that may be cut
    for column in ("seeds", "env steps", word_for(objective)):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for point in shown:
        ended = f"{point.count(*_ENDED)}/{len(point.seeds)}"
        env_steps = f"{min(seed.env_steps for seed in point.seeds):,}"
        score = format_number(point.score) if math.isfinite(point.score) else "-"
        label = Text(point.label, no_wrap=True, overflow="ellipsis")
        table.add_row(label, *map(Text, (ended, env_steps, score, point.state)))
    if len(shown) < len(points):
        table.add_row(Text(f"... and {len(points) - len(shown)} more"), "", "", "", "")
    return table


def _interest(point: PointProgress, objective: Objective) -> tuple[bool, float]:
    score = objective.sign * point.score
    return (not point.count(Trial.RUNNING), -score if math.isfinite(score) else math.inf)


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
