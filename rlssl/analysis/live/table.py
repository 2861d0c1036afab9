"""The table of a running sweep: a row a trial."""

import math

from rich.table import Table
from rich.text import Text

from rlssl.analysis.live.following import RunProgress, TrialProgress
from rlssl.analysis.live.points import best_point, word_for
from rlssl.analysis.objective import AREA_OF
from rlssl.analysis.sparkline import sparkline
from rlssl.analysis.table import format_number
from rlssl.clocks import WORDS
from rlssl.system.durations import duration

#: State -> color on a terminal.
_STYLES = {
    "running": "green",
    "quiet": "yellow",
    "failed": "red",
    "interrupted": "red",
    "stopped": "dim",
    "finished": "dim",
}

#: States of trials that are shown first, if there is no room for all.
_FIRST = ("quiet", "failed", "running", "starting")

#: Letters of a curve, on a wide and on a narrow terminal.
_WIDE, _NARROW = 20, 10


def trials_table(
    run: RunProgress, num_rows: int | None, *, width: int, symbols: str
) -> tuple[Table, int]:
    """The table of a run's trials.

    If there are too many, quiet, failed and running trials are shown first, then those with the
    best scores.

    Args:
        run: From `RunFollower.look`.
        num_rows: Number of rows that fit; None: all are shown.
        width: Of the terminal, in letters.
        symbols: Letters of the curves, from low to high.

    Returns:
        The table, and the number of trials that it leaves out.
    """
    shown = run.trials
    if num_rows is not None and len(shown) > num_rows:
        order = sorted(range(len(shown)), key=lambda index: _interest(run, shown[index]))
        shown = [shown[index] for index in sorted(order[:num_rows])]
    has_objective = run.objective.metric != AREA_OF
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("point")  # the only column that may be cut
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for column in (WORDS[run.clock], "done", "return"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("course", no_wrap=True)
    if has_objective:
        table.add_column(word_for(run.objective), justify="right", no_wrap=True)
    for column in ("steps/s", "faults"):
        table.add_column(column, justify="right", no_wrap=True)
    letters = _WIDE if width >= 100 else _NARROW
    for trial in shown:
        table.add_row(*_cells(trial, letters, symbols, has_objective=has_objective))
    return table, len(run.trials) - len(shown)


def _interest(run: RunProgress, trial: TrialProgress) -> tuple[int, float]:
    place = _FIRST.index(trial.state) if trial.state in _FIRST else len(_FIRST)
    score = run.objective.sign * trial.score
    return place, -score if math.isfinite(score) else math.inf


def _cells(trial: TrialProgress, letters: int, symbols: str, *, has_objective: bool) -> list[Text]:
    state = trial.state
    if state == "quiet":
        state = f"quiet {duration(trial.age_s)}"
    score, faults = [_number(trial.score)] if has_objective else [], sum(trial.faults.values())
    done = f"{min(trial.env_steps / trial.goal, 1.0):.0%}" if math.isfinite(trial.goal) else "-"
    return [
        Text(trial.label or "-", no_wrap=True, overflow="ellipsis"),
        Text(str(trial.seed)),
        Text(state, style=_STYLES.get(trial.state, "")),
        Text(f"{trial.env_steps:,}"),
        Text(done),
        Text(_number(trial.last_return)),
        Text(sparkline(trial.course, letters, symbols=symbols), style="cyan"),
        *map(Text, score),
        Text(f"{trial.env_steps_per_s:,.0f}" if math.isfinite(trial.env_steps_per_s) else "-"),
        Text(f"{faults:,}" if faults else "-", style="red" if faults else ""),
    ]


def _number(value: float) -> str:
    return format_number(value) if math.isfinite(value) else "-"


def summary_lines(run: RunProgress, state: str) -> list[str]:
    """The state of a run in a few lines: counts, speed and time left, the best point, problems.

    Args:
        run: From `RunFollower.look`.
        state: running, finished, failed or interrupted.
    """
    finished = run.count("finished", "stopped")
    counts = [
        f"{count} {word}"
        for word, count in (
            ("running", run.count("running")),
            ("starting", run.count("starting")),
            ("quiet", run.count("quiet")),
            ("failed", run.count("failed")),
            ("interrupted", run.count("interrupted")),
            ("waiting", run.num_expected - len(run.trials)),
        )
        if count
    ]
    if not run.num_expected:
        counts = ["how many trials it has is not known yet"]
    else:
        counts = [f"{finished} of {run.num_expected} trials finished", *counts]
    words = ", ".join(counts)
    lines = [f"{run.name} is {state}: {words}{_speed(run)}."]
    if not run.trials:
        lines.append("No trial has begun yet.")
    best = best_point(run.points, run.objective)
    problems = [f"Problem: {one}" for one in run.problems[:_MOST_PROBLEMS]]
    if len(run.problems) > _MOST_PROBLEMS:
        problems.append(f"... and {len(run.problems) - _MOST_PROBLEMS} more problems.")
    return [line for line in (*lines, best, *problems) if line]


#: Problems that are shown.
_MOST_PROBLEMS = 3


def _speed(run: RunProgress) -> str:
    parts = []
    if math.isfinite(run.share):
        parts.append(f"{run.share:.0%} of the {WORDS[run.clock]}")
    speeds = [trial.env_steps_per_s for trial in run.trials if trial.state == "running"]
    if finite := [speed for speed in speeds if math.isfinite(speed)]:
        parts.append(f"{sum(finite):,.0f} {WORDS[run.clock]}/s")
    if math.isfinite(run.seconds_left):
        parts.append(f"{duration(run.seconds_left)} left")
    return f"; {', '.join(parts)}" if parts else ""
