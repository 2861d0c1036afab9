"""A comparison for the terminal, and as JSON."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlssl.analysis.comparison.comparison import Comparison
from rlssl.analysis.comparison.curves import TextCurves, share_an_axis
from rlssl.analysis.comparison.sides import Side
from rlssl.analysis.shares import CONFIDENCE
from rlssl.analysis.statistics import Difference, Interval
from rlssl.analysis.table import format_number
from rlssl.clocks import WORDS, unit_of

if TYPE_CHECKING:
    from rich.table import Table


def tables(found: Comparison, curves: TextCurves | None) -> "Iterator[Table]":
    """The tables of a comparison: both sides, and the settings that differ.

    Args:
        found: The comparison.
        curves: Both curves as text; None: there are none.
    """
    yield _table_of_sides(found, curves)
    differing = [row for row in found.settings if row.differs]
    if differing:
        table = _empty("settings that differ")
        for row in differing:
            _add(table, row.key, *row.cells)
        yield table


def lines_below(found: Comparison, curves: TextCurves | None) -> list[str]:
    """What is printed below the tables: what the curves mean, notes and cautions."""
    same = sum(not row.differs for row in found.settings)
    lines = [f"{same} settings are the same." if same else ""]
    lines += [f"curves: {curves.caption}"] if curves else []
    if not share_an_axis(found.unlike):
        lines.append("curves: not shown on one axis, because the environments are unlike.")
    if found.at_common_steps is not None:
        steps, there = found.at_common_steps
        unit = WORDS[found.first.protocol.clock]
        lines.append(f"At {steps:,} {unit}, which both have: A - B = {_of(there)}.")
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"caution: {one.words}" for one in found.cautions]
    return list(filter(None, lines))


def as_data(found: Comparison, curves: TextCurves | None = None) -> dict[str, Any]:
    """The comparison as plain data for JSON; unknown numbers are null."""
    sides = zip("ab", (found.first, found.second), strict=True)
    common = found.at_common_steps
    return {
        "verdict": found.verdict,
        "score": "final return" if found.objective is None else found.objective.words,
        **{letter: _side(side) for letter, side in sides},
        "unlike_protocols": list(found.unlike),
        "difference": _difference(found.difference),
        "probability_of_improvement": {
            "value": found.improvement,
            "interval": _interval(found.improvement_interval),
        },
        "at_common_env_steps": None
        if common is None
        else {"env_steps": common[0], "difference": _difference(common[1])},
        "confidence": CONFIDENCE,
        "settings_that_differ": {
            row.key: {"a": row.cells[0], "b": row.cells[1]} for row in found.settings if row.differs
        },
        "curves": None if curves is None else list(curves.lines),
        "notes": list(found.notes),
        "cautions": [vars(one) for one in found.cautions],
    }


def _table_of_sides(found: Comparison, curves: TextCurves | None) -> "Table":
    table = _empty("")
    sides = (found.first, found.second)
    _add(table, "", *(side.name for side in sides))
    score = "final return" if found.objective is None else found.objective.words
    _add(table, score, *(str(side.estimate) for side in sides))
    _add(table, "each seed", *(_seeds(side) for side in sides))
    if found.difference is not None:
        _add(table, "A - B", _of(found.difference), "")
    if found.improvement is not None:
        words = f"{found.improvement:.2f}"
        if found.improvement_interval is not None:
            low, high = found.improvement_interval
            words += f" [{low:.2f}, {high:.2f}]"
        _add(table, "P(A better than B)", words, "")
    facts = [side.protocol.facts for side in sides]
    unlike = [one.partition(":")[0] for one in found.unlike]
    for name in unlike:
        _add(table, name, *(fact[name] for fact in facts))
    _add(table, "measured", *(side.protocol.label for side in sides))
    if curves is not None:
        _add(table, "curve", *curves.lines)
    _add(table, "training time", *(_seconds(side) for side in sides))
    unit = unit_of(side.protocol.clock for side in sides)
    _add(table, f"{unit}/s", *(_speed(side) for side in sides))
    return table


def _empty(title: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table  # imported here, because JSON needs no rich

    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("", "A", "B"):
        table.add_column(header, overflow="fold")
    return table


def _add(table: "Table", *cells: str) -> None:
    from rich.text import Text

    table.add_row(*map(Text, cells))  # as Text, because rich would read "[a]" as markup


def _seeds(side: Side) -> str:
    each = [f"{format_number(score)} (seed {seed})" for seed, score in side.scores.items()]
    return ", ".join(each) or "n/a"


def _of(found: Difference) -> str:
    if math.isnan(found.value):
        return "n/a"
    if found.interval is None:
        return f"{format_number(found.value)} [no interval]"
    low, high = map(format_number, found.interval)
    return f"{format_number(found.value)} [{low}, {high}] ({CONFIDENCE:.0%}, {found.method})"


def _seconds(side: Side) -> str:
    seconds = side.cost.seconds
    if seconds is None:
        return "n/a"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _speed(side: Side) -> str:
    speed = side.cost.env_steps_per_s
    return "n/a" if speed is None else format_number(speed)


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "mean": None if math.isnan(side.estimate.mean) else side.estimate.mean,
        "interval": _interval(side.estimate.interval),
        "scores": {str(seed): score for seed, score in side.scores.items()},
        "protocol": {**side.protocol.facts, "label": side.protocol.label},
        "env_steps": list(side.env_steps),
        "seconds": side.cost.seconds,
        "env_steps_per_s": side.cost.env_steps_per_s,
        "trials": [str(trial.path) for trial in side.counted],
    }


def _difference(found: Difference | None) -> dict[str, Any] | None:
    if found is None or math.isnan(found.value):
        return None
    return {
        "value": found.value,
        "interval": _interval(found.interval),
        "method": found.method or None,
    }


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
