"""A report of runs: one HTML file that needs no network and no server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlssl.analysis.report.collect import Report, read_report, report_of
from rlssl.analysis.report.data import as_data
from rlssl.analysis.report.figures import write_figures
from rlssl.analysis.report.markdown import markdown_of
from rlssl.analysis.report.metrics import curves_of
from rlssl.analysis.report.page import render
from rlssl.analysis.report.sections import sections_of
from rlssl.analysis.report.verdict import verdict_of
from rlssl.system.files import cannot_write, replace_text

__all__ = [
    "Report",
    "ReportNotWrittenError",
    "Written",
    "as_data",
    "read_report",
    "report_of",
    "write_report",
]


class ReportNotWrittenError(OSError):
    """The page of a report cannot be written; says where, and why."""


@dataclass(frozen=True)
class Written:
    """What was written for a report.

    Args:
        page: The HTML file.
        markdown: The summary as Markdown.
        figures: The PNG and SVG files.
    """

    page: Path
    markdown: str
    figures: Sequence[Path] = ()


def write_report(report: Report, path: str | Path, *, figures: str | Path | None = None) -> Written:
    """Writes the page of a report, and its figures if a folder for them is given.

    Args:
        report: From `read_report`.
        path: Path of the HTML file; its folder must exist.
        figures: Folder for PNG and SVG files; None: none are written.

    Raises:
        ModuleNotFoundError: If a package of the extra ``report`` is missing; names it.
        ReportNotWrittenError: If the page cannot be written; names it.
        OSError: If a figure cannot be written.

    Example:
        >>> report = read_report(["results/quickstart"])  # doctest: +SKIP
        >>> write_report(report, "report.html").page  # doctest: +SKIP
        PosixPath('/home/me/report.html')
    """
    verdicts = [verdict_of(group) for group in report.groups]
    curves = curves_of(report.variants)
    sections = sections_of(report)
    target = Path(path).resolve()
    page = render(report, verdicts, curves, sections)
    try:
        replace_text(target, page)
    except OSError as error:
        raise ReportNotWrittenError(cannot_write(target, error)) from error
    files = [] if figures is None else write_figures(report, curves, sections, Path(figures))
    return Written(target, markdown_of(report, verdicts), files)
