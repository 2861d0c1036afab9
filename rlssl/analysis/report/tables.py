"""The tables of a report, for its page and for Markdown."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlssl.analysis.protocol import protocol_of
from rlssl.analysis.report.charts import interval_words
from rlssl.analysis.report.collect import Group, Report, Variant
from rlssl.analysis.report.verdict import lead_of
from rlssl.analysis.settings_difference import SettingRow, compare_settings
from rlssl.analysis.shares import CONFIDENCE
from rlssl.analysis.table import Estimate, table_csv
from rlssl.clocks import unit_of

#: Variants whose settings stand side by side.
MOST_SIDES = 8
_NOTHING = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: What it says.
        notes: Below the text, what a reader must know about it.
        value: By which a column is sorted; None: by the text.
        mark: Whether it is marked.
    """

    text: str
    notes: Sequence[str] = ()
    value: float | None = None
    mark: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        cells: The first one is the heading of the row.
        mark: "best" for a variant that is clearly the best one.
    """

    cells: Sequence[Cell]
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: For screen readers, and for tables that are folded.
        header: A heading for each column.
        rows: The rows.
        caption: Lines below it.
        words: The number of first columns that are no numbers.
        sortable: Whether a click on a heading sorts it.
        folded: Whether it is shown only after a click.
    """

    name: str
    header: Sequence[str]
    rows: Sequence[Row]
    caption: Sequence[str] = ()
    words: int = 1
    sortable: bool = False
    folded: bool = False


def text_row(*cells: str, mark: str = "") -> Row:
    """A row of plain text."""
    return Row([Cell(text) for text in cells], mark)


def summary_table(group: Group) -> Table:
    """The rows that ``rlssl summary`` prints, the best variant first, and how far it is ahead.

    Args:
        group: Variants of one protocol.
    """
    rows = [one.row for one in group.variants]
    words = next((row.objective_words for row in rows if row.objective_words), "")
    has_success = any(row.success_rate.num_seeds for row in rows)
    is_compared = len(group.scored) > 1
    unit = unit_of(row.clock for row in rows)
    header = ["variant", "seeds", unit, *["objective"] * bool(words), "final return"]
    header += ["success rate"] * has_success
    first = _word_of_the_first(group)
    header += [f"{first} is ahead by", f"{first} wins"] * is_compared
    lines = [
        _summary_row(one, group, bool(words), has_success, is_compared) for one in group.variants
    ]
    return Table(
        f"Scores: {group.task}", header, lines, _caption(group, words, has_success), sortable=True
    )


def _word_of_the_first(group: Group) -> str:
    """What the first variant is called: "best" only if it is clearly better than the next one."""
    scored = group.scored
    if len(scored) < 2 or lead_of(scored[0], scored[1]).is_clear:
        return "best"
    return "highest" if scored[0].sign > 0 else "lowest"


def _summary_row(
    one: Variant, group: Group, has_objective: bool, has_success: bool, is_compared: bool
) -> Row:
    row, best = one.row, group.variants[0]
    word = _word_of_the_first(group) if one is best else ""
    cells = [
        Cell(one.label, row.notes),
        Cell(str(row.num_seeds), value=row.num_seeds),
        Cell(f"{row.env_steps:,}", value=row.env_steps),
    ]
    unknown = Estimate(math.nan, None, 0)
    estimates = [row.objective or unknown] if has_objective else []
    estimates += [row.final_return, *[row.success_rate] * has_success]
    cells += [_estimate(estimate, row.num_seeds) for estimate in estimates]
    if is_compared and one is not best and one in group.scored:
        found = lead_of(best, one)
        cells.append(Cell(str(found), value=found.difference.value))
        cells.append(Cell(found.chance, value=found.probability))
    elif is_compared:
        cells += [Cell(word or "n/a"), Cell(_NOTHING)]
    return Row(cells, word if word == "best" and is_compared else "")


def _estimate(estimate: Estimate, num_seeds: int) -> Cell:
    some = 0 < estimate.num_seeds < num_seeds
    notes = [f"{estimate.num_seeds} of {num_seeds} seeds"] if some else []
    value = None if math.isnan(estimate.mean) else estimate.mean
    return Cell(str(estimate), notes, value)


def _caption(group: Group, objective: str, has_success: bool) -> list[str]:
    """What each column of numbers is."""
    first = next((one for one in group.variants if one.trials), None)
    lines = []
    if first is not None:
        final = measured(protocol_of(first.counted).label)
        lines.append(f"final return: {final}; extrinsic, unclipped, {seeds_words(group)}")
        if has_success:
            lines.append("success rate: of the same episodes")
        if objective:
            lines.append(f"objective: {objective}; {measured(group.protocol.label)}")
    lines.append(f"mean over seeds [{interval_words()}]")
    if len(group.scored) > 1:
        word = _word_of_the_first(group)
        lines.append(
            f"{word} is ahead by: difference of the means [Welch's interval; shares: Newcombe's]; "
            f"{word} wins: probability that a seed of the first variant is better [Newcombe's]"
        )
    if len(group.scored) > 2:
        lines.append(
            f"{len(group.scored) - 1} comparisons, each with an interval of {CONFIDENCE:.0%} that "
            "is not corrected for their number"
        )
    return lines


def measured(label: str) -> str:
    """The part of a protocol's label that says how a value is measured.

    Example:
        >>> measured("return: mean of the last 20 training episodes; 100 env steps; 3 seeds")
        'mean of the last 20 training episodes'
    """
    return label.partition("; ")[0].partition(": ")[2]


def seeds_words(group: Group) -> str:
    """Over what its scores are averaged."""
    counts = sorted({one.estimate.num_seeds for one in group.scored})
    if not counts:
        return "no seed"
    few, most = counts[0], counts[-1]
    return f"{few} to {most} seeds" if few != most else f"{most} seed{'s' if most > 1 else ''}"


def summary_csv(report: Report) -> str:
    """All rows of all groups, in full precision."""
    several = len(report.groups) > 1
    rows = [
        dataclasses.replace(one.row, variant=f"{group.task}: {one.label}" if several else one.label)
        for group in report.groups
        for one in group.variants
    ]
    return table_csv(rows)


def settings_tables(report: Report) -> tuple[list[str], list[Table]]:
    """What is said about the settings, and their tables: those that differ, and all."""
    sides = [one for group in report.groups for one in group.variants if one.trials]
    shown = sides[:MOST_SIDES]
    rows = compare_settings([one.trials for one in shown])
    differing = [row for row in rows if row.differs]
    header = ["setting", *(one.label for one in shown)]
    text = []
    if len(sides) > len(shown):
        text.append(f"The {len(shown)} best of {len(sides)} variants, side by side.")
    tables = []
    if differing:
        tables.append(_settings("Settings that differ", header, differing))
    elif len(shown) > 1:
        text.append("The variants do not differ in any setting.")
    tables.append(_settings("All settings and versions", header, rows, folded=True))
    return text, tables


def _settings(
    name: str, header: Sequence[str], rows: Sequence[SettingRow], *, folded: bool = False
) -> Table:
    lines = [
        Row([Cell(row.key), *(Cell(text, mark=row.differs and folded) for text in row.cells)])
        for row in rows
    ]
    caption = ["settings as used: defaults, preset and variant applied; without the seed"]
    return Table(name, header, lines, caption, words=len(header), folded=folded)
