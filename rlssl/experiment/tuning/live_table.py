"""Shows a running sweep: a live table on a terminal, else a line a minute."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from rlssl.analysis.live.points import (
    DEFAULT_OBJECTIVE,
    ENDED,
    PointProgress,
    SeedProgress,
    best_point,
    points_table,
)
from rlssl.analysis.objective import Objective
from rlssl.analysis.points import point_key, read_stops
from rlssl.clocks import ENV_STEPS, WORDS, steps_of
from rlssl.experiment.tuning.searchers import label_of
from rlssl.experiment.tuning.trial_config import point_of
from rlssl.system.durations import duration

#: Seconds between updates of the table, and between lines if the output is not a terminal.
_TABLE_PERIOD_S, _LINE_PERIOD_S = 1.0, 60.0

#: Lines of the terminal that are not rows: the header, the summary, the prompt.
_OTHER_LINES = 7


class SweepProgress(Callback):
    """Shows every point of a sweep while it runs.

    Args:
        num_trials: Number of trials of the whole sweep.
        env_steps: Steps of one trial, if nothing stops it earlier, on the clock of the run.
        scheduler: Name of the scheduler, for the summary; empty without one.
        objective: What the search maximizes or minimizes.
        num_ended_before: Number of trials that ended in an earlier process, and that Tune does not
            know.
        clock: What the steps count; see `rlssl.clocks`.
    """

    def __init__(
        self,
        num_trials: int,
        env_steps: float,
        scheduler: str = "",
        objective: Objective = DEFAULT_OBJECTIVE,
        num_ended_before: int = 0,
        clock: str = ENV_STEPS,
    ) -> None:
        self.num_trials, self.env_steps, self.scheduler = num_trials, env_steps, scheduler
        self.objective, self.num_ended_before = objective, num_ended_before
        self.clock = clock
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
        table = points_table(points, num_rows, self.objective, self.clock)
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
        """Steps that need not be made any more."""
        return self.num_ended_before * self.env_steps + sum(
            self.env_steps
            if trial.status in ENDED
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
        share = f"{done / total:.0%} of the {WORDS[self.clock]}"
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
        env_steps=steps_of(result, 0),
        score=math.nan if score is None else score,
    )
