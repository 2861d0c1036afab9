"""The sections that compare over tasks, and with published numbers."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rlssl.analysis.protocol import differences
from rlssl.analysis.published import PublishedNumber, published_numbers
from rlssl.analysis.report import charts
from rlssl.analysis.report.collect import Group, Report
from rlssl.analysis.report.parts import Chart, Section
from rlssl.analysis.report.tables import Cell, Row, Table, text_row
from rlssl.analysis.report.tasks import (
    SUCCESS,
    Method,
    OverTasks,
    aggregate_words,
    normalized,
    over_tasks,
)
from rlssl.analysis.shares import CONFIDENCE
from rlssl.analysis.statistics import (
    MIN_SEEDS,
    mean_interval,
    performance_profile,
    performance_profile_bounds,
    wilson_interval,
)
from rlssl.analysis.table import format_number

#: The most own variants beside published numbers.
MOST_OWN = 5
_NUM_THRESHOLDS, _NUM_RESAMPLES = 81, 500


def over_tasks_sections(report: Report) -> Iterator[Section]:
    """Aggregates, profiles and bars over tasks, if there are several."""
    found = over_tasks(report)
    if found is None:
        return
    title = f"Over {len(found.groups)} tasks"
    if not found.methods:
        yield Section("tasks", title, found.notes)
        return
    header = ["method", "seeds per task", *(one.name for one in found.methods[0].aggregates)]
    rows = [
        Row(
            [
                Cell(one.name),
                Cell(str(one.scores.shape[1])),
                *(Cell(aggregate_words(each), value=each.value) for each in one.aggregates),
            ],
            "best" if one is found.methods[0] else "",
        )
        for one in found.methods
    ]
    caption = [
        f"{found.scale} [{CONFIDENCE:.0%} stratified bootstrap interval over seeds]; "
        f"{found.groups[0].protocol.label}",
        "IQM: mean of the middle half of all runs; optimality gap: lower is better",
    ]
    table = Table("Aggregates over tasks", header, rows, caption, sortable=True)
    shown = [_profile_chart(found), _bars_chart(found)]
    text = [found.headline, *found.notes]
    yield Section("tasks", title, text, shown, [table], grid=True)


def _profile_chart(found: OverTasks) -> Chart:
    top = max(float(one.scores.max()) for one in found.methods)
    low = min(0.0, *(float(one.scores.min()) for one in found.methods))
    thresholds = np.linspace(low, top, _NUM_THRESHOLDS)
    rows: list[dict[str, Any]] = []
    for one in found.methods:
        shares = performance_profile(one.scores, thresholds)
        bounds = _profile_bounds(one, thresholds, shares)
        for at, threshold in enumerate(thresholds.tolist()):
            rows.append(
                {
                    "label": one.name,
                    "threshold": threshold,
                    "share": float(shares[at]),
                    "low": float(bounds[0][at]),
                    "high": float(bounds[1][at]),
                }
            )
    names = [one.name for one in found.methods]
    alt = f"Share of runs above each {found.scale}, for {', '.join(names)}"
    note = f"band: {CONFIDENCE:.0%} stratified bootstrap interval, for each threshold alone"
    spec = charts.performance_profiles(rows, names, found.scale)
    return Chart("performance-profiles", "Performance profiles", spec, alt, note)


def _profile_bounds(
    one: Method, thresholds: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if one.scores.shape[1] < MIN_SEEDS:
        return shares, shares
    return performance_profile_bounds(one.scores, thresholds, num_resamples=_NUM_RESAMPLES)


def _bars_chart(found: OverTasks) -> Chart:
    rows: list[dict[str, Any]] = []
    for task, group in enumerate(found.groups):
        for one in found.methods:
            scores = normalized(one.variants[task], found.scale)
            low, high = _ends(scores, found.scale == SUCCESS)
            mean = float(scores.mean())
            place = {"task": group.protocol.task, "label": one.name}
            rows.append({**place, "score": mean, "low": low, "high": high})
    names = [one.name for one in found.methods]
    alt = "; ".join(f"{r['task']}: {r['label']} {format_number(r['score'])}" for r in rows)
    note = f"line: {charts.interval_words()}"
    spec = charts.task_bars(rows, names, found.scale)
    return Chart("task-scores", "Score of each task", spec, alt, note)


def _ends(scores: np.ndarray, are_shares: bool) -> tuple[float | None, float | None]:
    if len(scores) < MIN_SEEDS:
        return None, None
    found = wilson_interval(scores) if are_shares else mean_interval(scores)
    return found.low, found.high


def published_sections(report: Report) -> Iterator[Section]:
    """Scores of papers beside one's own, for tasks that papers report."""
    tables = []
    for group in report.groups:
        numbers = published_numbers(group.protocol.task)
        if numbers and group.scored and group.protocol.metric == "return":
            tables.append(_published(group, numbers))
    if tables:
        text = [
            "Scores of papers, each with its protocol as far as the paper states it. Protocols "
            "differ: a higher number is not yet a better method. No difference is computed."
        ]
        yield Section("published", "Published numbers", text, tables=tables)


def _published(group: Group, numbers: Sequence[PublishedNumber]) -> Table:
    rows = [
        Row(
            [
                Cell(one.label),
                Cell(str(one.estimate)),
                Cell(one.protocol.label),
                Cell("this report"),
                Cell(""),
            ],
            "best",
        )
        for one in group.scored[:MOST_OWN]
    ]
    for number in numbers:
        spread = "" if number.sd is None else f" (standard deviation {format_number(number.sd)})"
        unlike = differences(group.protocol, number.protocol)
        method = (
            f"{number.method}, from {number.observations}" if number.observations else number.method
        )
        cells = text_row(
            method,
            f"{format_number(number.mean)}{spread}" if math.isfinite(number.mean) else "n/a",
            number.protocol.label,
            f"{number.source}{f'; {number.note}' if number.note else ''}",
            "; ".join(unlike) or "nothing",
        ).cells
        rows.append(Row(cells))
    header = ["method", "return", "protocol", "source", "unlike this report"]
    return Table(f"Published: {group.task}", header, rows, words=len(header), folded=True)
