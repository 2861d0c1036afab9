"""The table of a sweep: for each variant, the final score and its confidence interval."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlssl.analysis.labels import point_labels
from rlssl.analysis.objective import OBJECTIVE, Objective
from rlssl.analysis.points import Point, point_key
from rlssl.analysis.protocol import FINAL_EPISODES, last_episodes, seeds_with_few_episodes
from rlssl.analysis.results import Trial
from rlssl.analysis.shares import ANY_RANGE, CONFIDENCE, ScoreRange, range_of
from rlssl.analysis.statistics import (
    MIN_SEEDS,
    Interval,
    mean_interval,
    wilson_interval,
)
from rlssl.clocks import ENV_STEPS, UPDATES, unit_of

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its interval.

    Args:
        mean: Mean over the seeds that have a score; NaN if none has.
        interval: Student's t interval, or Wilson's interval of a share; None with fewer than
            three scores.
        num_seeds: Number of seeds that have a score.

    Example:
        >>> print(Estimate(mean=12.345, interval=Interval(11.0, 13.69), num_seeds=3))
        12.3 [11.0, 13.7]
        >>> print(Estimate(mean=12.345, interval=None, num_seeds=1))
        12.3 [n/a (1 seed)]
    """

    mean: float
    interval: Interval | None
    num_seeds: int

    def __str__(self) -> str:
        """``mean [low, high]``, or the mean and why there is no interval."""
        if self.num_seeds == 0:
            return "n/a"
        if self.interval is None:
            return f"{format_number(self.mean)} [n/a ({count_seeds(self.num_seeds)})]"
        low, high = map(format_number, self.interval)
        return f"{format_number(self.mean)} [{low}, {high}]"


_UNKNOWN = Estimate(math.nan, None, 0)


@dataclass(frozen=True)
class VariantRow:
    """The scores of one variant over its seeds.

    Args:
        variant: The searched values as text.
        num_seeds: Number of trials in the scores. Failed and unfinished trials do not count, unless
            no trial has finished.
        final_return: Mean extrinsic return over each trial's last episodes, then over the trials.
        success_rate: The same for the success, in [0, 1]; no score if the environment reports none.
        env_steps: The fewest steps that any of these trials reached, on their clock.
        num_finished: Number of finished trials; None: as ``num_seeds``.
        num_expected: Number of seeds that the sweep gives to every point; None: as ``num_seeds``.
        stopped_at: Env steps of the rung at which the scheduler stopped the variant.
        objective: The objective of the search; None if the spec has none.
        objective_words: What the objective is.
        returns: The range of the returns of all trials of the sweep.
        clock: What the steps count: env steps, or updates of trials that make none.
        few_episodes: The seeds in the scores with fewer episodes than FINAL_EPISODES.

    Example:
        >>> score = Estimate(1.0, None, 2)
        >>> VariantRow("icm", 2, score, score, 900, num_expected=3, stopped_at=500).notes
        ['2 of 3 seeds', 'stopped at 500']
    """

    variant: str
    num_seeds: int
    final_return: Estimate
    success_rate: Estimate
    env_steps: int
    num_finished: int | None = None
    num_expected: int | None = None
    stopped_at: int | None = None
    objective: Estimate | None = None
    objective_words: str = ""
    returns: ScoreRange = ANY_RANGE
    clock: str = ENV_STEPS
    few_episodes: Sequence[int] = ()

    @property
    def notes(self) -> list[str]:
        """What a reader must know about the scores, a few words each."""
        finished = self.num_seeds if self.num_finished is None else self.num_finished
        expected = self.num_seeds if self.num_expected is None else self.num_expected
        notes = []
        if finished < expected:
            notes.append(f"{finished} of {count_seeds(expected)}")
        if not finished and self.num_seeds:
            notes.append("unfinished")
        if self.stopped_at is not None:
            notes.append(f"stopped at {self.stopped_at:,}")
        return notes


def sweep_table(trials: Sequence[Trial], points: Sequence[Point] = ()) -> list[VariantRow]:
    """Aggregates trials over their seeds.

    A trial's score is the mean over the last 20 rows of ``episodes.csv``, or over all rows if there
    are fewer. A variant's score is the mean of its trials' scores; each trial counts once. With
    three seeds or more it has an interval: Wilson's for success rates, and for returns if every
    episode of the sweep has a return of 0 or 1; else Student's t, which is cut to [0, 1] if returns
    cannot leave it.

    A failed or unfinished trial is not in the score of its variant; the row counts it.

    Args:
        trials: Trials of one or several sweeps.
        points: Every point of the sweep. A point without a trial gets a row without scores.

    Returns:
        One row per variant, in the order in which the variants first appear.

    Raises:
        ValueError: If there are no trials, or an episode's return is not finite.

    Example:
        >>> from rlssl.analysis.results import Episodes
        >>> numbers = np.array([1.0, 3.0])
        >>> episodes = Episodes(numbers, numbers, numbers, successes=numbers * np.nan)
        >>> trial = Trial(Path("a"), {}, {"lr": 0.1}, 0, "lr=0.1", [{"env_steps": 3}], episodes)
        >>> (row,) = sweep_table([trial])
        >>> row.variant, row.env_steps, row.final_return.mean  # (1 + 3) / 2
        ('lr=0.1', 3, 2.0)
    """
    if not trials:
        raise ValueError("trials must not be empty: there is nothing to compare.")
    returns = range_of(trials)
    rows = [_row(label, group, returns) for label, group in group_by_variant(trials).items()]
    started = {point_key(trial.point) for trial in trials}
    none, expected = _UNKNOWN, len(trials[0].sweep_seeds)
    return rows + [
        VariantRow(point.label, 0, none, none, 0, num_finished=0, num_expected=expected)
        for point in points
        if point_key(point.values) not in started
    ]


def counted_trials(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that make up a variant's score: the complete ones; without any, all of them.

    Example:
        >>> from rlssl.analysis.results import Episodes
        >>> none = Episodes(*np.empty((4, 0)))
        >>> failed = Trial(Path("a"), {}, {}, 0, "", [], none, status="failed")
        >>> done = Trial(Path("b"), {}, {}, 1, "", [], none)
        >>> [trial.seed for trial in counted_trials([failed, done])]
        [1]
    """
    return [trial for trial in trials if trial.is_complete] or list(trials)


def group_by_variant(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Groups trials that differ only in the seed.

    Args:
        trials: Trials in any order.

    Returns:
        Label -> trials. Points with the same label get new labels that tell them apart; experiments
        with the same label get their name appended.
    """
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        name = str(trial.spec.get("name", ""))
        groups.setdefault((name, point_key(trial.point)), []).append(trial)
    labels: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys(name for name, _ in groups):
        keys = [key for key in groups if key[0] == name]
        labels |= dict(zip(keys, _distinct_labels([groups[key][0] for key in keys]), strict=True))
    known = list(labels.values())
    return {
        label if known.count(label) == 1 else f"{label} ({key[0]})": groups[key]
        for key, label in ((key, labels[key]) for key in groups)
    }


def _distinct_labels(trials: Sequence[Trial]) -> list[str]:
    """Labels of trials of one experiment, one trial for each point."""
    labels = [_label(trial) for trial in trials]
    distinct = point_labels([trial.point for trial in trials])
    return [
        label if labels.count(label) == 1 else other
        for label, other in zip(labels, distinct, strict=True)
    ]


def render_table(
    rows: Sequence[VariantRow], *, title: str | None = None, width: int | None = None
) -> "Table":
    """Builds a table for the terminal.

    Args:
        rows: From ``sweep_table``.
        title: Title above the table.
        width: Columns of the terminal. In a table that would be wider, intervals are below their
            means, so that the variants have room. None: the table is not limited.

    Returns:
        A rich table; without the column of success rates if no variant has one.

    Example:
        >>> score = Estimate(1.0, None, 1)
        >>> table = render_table([VariantRow("icm", 1, score, score, 500)], title="results")
        >>> [column.header for column in table.columns]
        ['variant', 'seeds', 'env steps', 'final return', 'success rate']
    """
    from rich.console import Console  # imported here, because CSV and plots need no rich

    table = _table(rows, title, " ")
    if width is not None and Console(width=10_000).measure(table).maximum > width:
        table = _table(rows, title, "\n")
    return table


def _table(rows: Sequence[VariantRow], title: str | None, separator: str) -> "Table":
    """The table, with a separator between means and intervals."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    has_success = any(row.success_rate.num_seeds for row in rows)
    words = next((row.objective_words for row in rows if row.objective_words), "")
    table = Table(
        title=title,
        caption=_caption(words, rows),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("variant", overflow="fold")  # the first column to wrap on a narrow terminal
    columns = [
        "seeds",
        unit_of(row.clock for row in rows),
        *["objective"] * bool(words),
        "final return",
    ]
    for column in [*columns, *["success rate"] * has_success]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        variant = "\n".join([row.variant, *row.notes])
        cells = [variant, str(row.num_seeds), f"{row.env_steps:,}"]
        estimates = [row.objective or _UNKNOWN] if words else []
        estimates += [row.final_return, *[row.success_rate] * has_success]
        for estimate in estimates:
            cell = _estimate_cell(estimate, row.num_seeds)
            cells.append(cell.replace(" [", f"{separator}[", 1))
        table.add_row(*map(Text, cells))  # as Text, because rich would read "[a]" as markup
    return table


def write_table_csv(rows: Sequence[VariantRow], path: str | Path) -> Path:
    """Writes the rows as CSV in full precision; unknown values are left empty.

    Args:
        rows: From ``sweep_table``.
        path: Path of the CSV file; its folder must exist.

    Returns:
        The absolute path.

    Example:
        >>> import tempfile
        >>> row = VariantRow("icm", 1, Estimate(1.5, None, 1), Estimate(math.nan, None, 0), 500)
        >>> path = write_table_csv([row], Path(tempfile.mkdtemp()) / "table.csv")
        >>> print(path.read_text().splitlines()[1])
        icm,1,500,1.5,,,,,,,,
    """
    target = Path(path).resolve()
    target.write_text(table_csv(rows), encoding="utf-8", newline="")
    return target


def table_csv(rows: Sequence[VariantRow]) -> str:
    """The rows as the text of a CSV file; see ``write_table_csv``."""
    header = ["variant", "num_seeds", unit_of(row.clock for row in rows).replace(" ", "_")]
    for name in ("final_return", "success_rate"):
        header += [f"{name}_mean", f"{name}_low", f"{name}_high"]
    header += ["num_finished", "num_expected", "stopped_at"]
    has_objective = any(row.objective_words for row in rows)
    if has_objective:
        header += ["objective_mean", "objective_low", "objective_high"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        cells = [*_csv_cells(row.final_return), *_csv_cells(row.success_rate)]
        cells += ["" if count is None else count for count in _counts(row)]
        cells += _csv_cells(row.objective or _UNKNOWN) if has_objective else []
        writer.writerow([row.variant, row.num_seeds, row.env_steps, *cells])
    return file.getvalue()


def describe_experiment(trials: Sequence[Trial]) -> str:
    """Algorithm, environment and number of seeds, for titles.

    Example:
        >>> from rlssl.analysis.results import Episodes
        >>> spec = {"algorithm": "ppo", "env": {"id": "CartPole-v1"}}
        >>> none = Episodes(*np.empty((4, 0)))
        >>> describe_experiment([Trial(Path("a"), spec, {}, 0, "", [], none)])
        'ppo on CartPole-v1, 1 seed'
    """
    algorithms, environments = [], []
    for trial in trials:
        env = trial.spec.get("env")
        algorithms.append(str(trial.spec.get("algorithm") or ""))
        environments.append(str((env.get("id") if isinstance(env, dict) else env) or ""))
    names = [_listed(algorithms, "algorithms"), _listed(environments, "environments")]
    groups = group_by_variant(trials).values()
    sizes = {len(counted_trials(group)) for group in groups}
    seeds = count_seeds(max(sizes)) if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} seeds"
    return ", ".join(filter(None, [" on ".join(filter(None, names)), seeds]))


def _listed(names: Iterable[str], kind: str) -> str:
    different = list(dict.fromkeys(filter(None, names)))
    return ", ".join(different) if len(different) <= 3 else f"{len(different)} {kind}"


def count_seeds(num_seeds: int) -> str:
    """The number of seeds in words.

    Example:
        >>> count_seeds(1), count_seeds(2)
        ('1 seed', '2 seeds')
    """
    return "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"


def format_number(value: float) -> str:
    """Formats three significant digits; all digits before the decimal point.

    Example:
        >>> [format_number(value) for value in (0.05123, 12.345, 1234.5, 1.5e-7)]
        ['0.0512', '12.3', '1,234', '1.50e-07']
        >>> format_number(math.nan), format_number(-math.inf)
        ('nan', '-inf')
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    if 0.0 < abs(value) < 1e-4:
        return f"{value:.2e}"
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 2
    return f"{value:.{decimals}f}"


def _row(label: str, group: Sequence[Trial], known: ScoreRange) -> VariantRow:
    trials = counted_trials(group)
    returns, successes = zip(*map(last_episodes, trials), strict=True)
    of_success = [values[~np.isnan(values)] for values in successes]
    words, objective = _objective(trials)
    stops = [trial.stopped_at for trial in group if trial.stopped_at is not None]
    return VariantRow(
        variant=label,
        num_seeds=len(trials),
        final_return=estimate_of_scores(_means(returns), known),
        success_rate=estimate_of_scores(_means(of_success), _RATES),
        env_steps=min(trial.steps for trial in trials),
        clock=trials[0].clock,
        num_finished=sum(trial.is_complete for trial in group),
        num_expected=len({*group[0].sweep_seeds, *(trial.seed for trial in group)}),
        stopped_at=stops[0] if stops else None,
        objective=objective,
        objective_words=words,
        returns=known,
        few_episodes=seeds_with_few_episodes(trials),
    )


def _objective(trials: Sequence[Trial]) -> tuple[str, Estimate | None]:
    """The objective in words, and its mean over the trials; nothing if their spec has none."""
    if not trials[0].spec.get(OBJECTIVE):
        return "", None
    objective = Objective.of(trials[0].spec)
    scores = [objective.score(trial.results[-1]) for trial in trials if trial.results]
    known = [score for score in scores if score is not None]
    return objective.words, estimate_of(known, objective)


def estimate_of(scores: Sequence[float], objective: Objective) -> Estimate:
    """The mean over seeds of their scores, and its interval.

    Args:
        scores: The objective of each seed.
        objective: What the scores are; success rates get Wilson's interval.

    Example:
        >>> estimate_of([1.0, 2.0], Objective()).mean
        1.5
    """
    return estimate_of_scores(scores, range_of([], objective))


def estimate_of_scores(scores: Sequence[float], known: ScoreRange = ANY_RANGE) -> Estimate:
    """The mean over seeds of their scores, and its interval.

    Args:
        scores: The score of each seed.
        known: Their range: shares get Wilson's interval, and the interval of scores that cannot
            leave [0, 1] is cut to it.

    Example:
        >>> from rlssl.analysis.shares import ScoreRange
        >>> print(estimate_of_scores([0.0, 0.85, 0.0], ScoreRange(False, True, False, True)))
        0.283 [0.00, 1.00]
    """
    if not scores:
        return _UNKNOWN
    mean = float(np.mean(scores))
    if len(scores) < MIN_SEEDS:
        return Estimate(mean, None, len(scores))
    if known.has_shares(scores):
        return Estimate(mean, wilson_interval(scores, confidence=CONFIDENCE), len(scores))
    interval = mean_interval(scores, confidence=CONFIDENCE)
    if known.are_bounded:
        interval = Interval(max(interval.low, 0.0), min(interval.high, 1.0))
    return Estimate(mean, interval, len(scores))


def _means(values: Sequence[NDArray[np.float64]]) -> list[float]:
    """The mean of each trial; a trial without values has no score."""
    return [float(of_trial.mean()) for of_trial in values if of_trial.size]


#: Of success rates.
_RATES = range_of([], Objective("success_rate"))


def _label(trial: Trial) -> str:
    if trial.variant_label:
        return trial.variant_label
    point = ", ".join(f"{path}={value}" for path, value in trial.point.items())
    return point or str(trial.spec.get("name") or trial.path.name)


def _caption(objective: str, rows: Sequence[VariantRow]) -> str:
    interval = f"{CONFIDENCE:.0%} t interval; shares: Wilson"
    clocks = {row.clock for row in rows}
    measured = {ENV_STEPS: f"last {FINAL_EPISODES} episodes", UPDATES: "last evaluation"}
    what = " or the ".join(words for clock, words in measured.items() if clock in clocks)
    fewer = " (of all, where a seed has fewer)" if any(row.few_episodes for row in rows) else ""
    words = f"mean over seeds of the {what}{fewer} [{interval}]"
    spans = [row.final_return.interval for row in rows]
    if any(span is not None and span.low == span.high for span in spans):
        words += "\nequal seeds: an interval without width says nothing about other seeds"
    return f"objective: {objective}\n{words}" if objective else words


def _estimate_cell(estimate: Estimate, num_seeds: int) -> str:
    if 0 < estimate.num_seeds < num_seeds:
        return f"{estimate}\n({estimate.num_seeds} of {num_seeds} seeds)"
    return str(estimate)


def _counts(row: VariantRow) -> tuple[int | None, ...]:
    return (row.num_finished, row.num_expected, row.stopped_at)


def _csv_cells(estimate: Estimate) -> list[float | str]:
    mean = "" if math.isnan(estimate.mean) else estimate.mean
    return [mean, *(estimate.interval or ("", ""))]
