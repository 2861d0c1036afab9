"""The summary of a report as Markdown, to paste."""

import re
from collections.abc import Iterator, Sequence

from rlssl.analysis.report.collect import Report
from rlssl.analysis.report.tables import Cell, Table, summary_table
from rlssl.analysis.report.verdict import Verdict, headline

# Characters that Markdown reads as markup, in names that users chose.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~])")


def markdown_of(report: Report, verdicts: Sequence[Verdict]) -> str:
    """The verdicts, their protocols and warnings, and the tables of scores.

    Args:
        report: The runs.
        verdicts: One for each group.
    """
    return "\n".join(_lines(report, verdicts)).rstrip() + "\n"


def _lines(report: Report, verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield f"## {escaped(report.title)}"
    yield ""
    for notice in report.notices:
        yield from (escaped(notice), "")
    if before := headline(report, verdicts):
        yield from (escaped(before), "")
    for one in verdicts:
        if len(verdicts) > 1:
            yield from (f"### {escaped(one.group.task)}", "")
        yield from (f"**{escaped(one.headline)}** {escaped(one.certainty)}", "")
        yield from (f"{escaped(one.group.task)}. {escaped(one.group.protocol.label)}.", "")
        if one.warnings:
            yield from (f"- {escaped(warning)}" for warning in one.warnings)
            yield ""
        yield from _table(summary_table(one.group))
        yield ""
    notices = [*report.faults, *report.problems]
    yield from (f"- {escaped(line)}" for line in notices)


def _table(table: Table) -> Iterator[str]:
    yield _row(escaped(cell) for cell in table.header)
    yield _row(("---" if at < table.words else "---:") for at, _ in enumerate(table.header))
    for row in table.rows:
        yield _row(_cell(cell) for cell in row.cells)
    yield ""
    yield from (f"{escaped(line)}  " for line in table.caption)


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return "; ".join(escaped(text) for text in (cell.text, *cell.notes))


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    Example:
        >>> escaped("a|b <c>")
        'a\\|b \\<c\\>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
