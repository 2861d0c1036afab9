"""`rlssl report`: one HTML page about one or several runs."""

from collections.abc import Sequence
from pathlib import Path

import click

from rlssl.analysis.report import (
    Report,
    ReportNotWrittenError,
    Written,
    as_data,
    read_report,
    write_report,
)
from rlssl.errors import DEFAULT_STORAGE, ExitCode, MissingExtraError, ResourceError, SpecError
from rlssl.experiment import lock
from rlssl.experiment.commands.summary import sent
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.run_files import REPORT_FILE
from rlssl.system.json_output import write_json


def report(
    runs: Sequence[str],
    *,
    storage: str = DEFAULT_STORAGE,
    out: Path | None = None,
    figures: Path | None = None,
    markdown: bool = False,
    as_json: bool = False,
) -> int:
    """Writes the report, and prints its path; reads only the results of the runs.

    Args:
        runs: Names of runs, or any paths that they have printed.
        storage: The folder in which names are looked up.
        out: The HTML file. None: ``report.html`` in the folder of the run, or in the current folder
            for several runs.
        figures: Folder for PNG and SVG files of the figures; None: none are written.
        markdown: Whether the summary is printed as Markdown.
        as_json: Whether the numbers are printed as JSON. Then a page is written only with ``out``
            or ``figures``, so that a script needs neither the extra nor a folder to write to.

    Returns:
        The exit code: 1 if no run has a result that can be read.

    Raises:
        SpecError: If there is no such run, or the file cannot be in such a folder.
        MissingExtraError: If the extra ``report`` is not installed.
        ResourceError: If the page cannot be written.
    """
    if markdown and as_json:
        raise SpecError("--markdown and --json both print to standard output; leave one of them.")
    folders = list(dict.fromkeys(sweep_folder(locate(run, storage)) for run in runs))
    target = out or (folders[0] / REPORT_FILE if len(folders) == 1 else Path(REPORT_FILE))
    if not target.resolve().parent.is_dir():
        raise SpecError(
            f"--out {target}: {target.resolve().parent} is not a folder; make it first."
        )
    try:
        content = read_report(folders, running=list(filter(lock.running, folders)))
        has_page = not as_json or out is not None or figures is not None
        written = write_report(content, target, figures=figures) if has_page else None
    except ValueError as error:
        click.echo(str(error), err=True)
        return ExitCode.TRIAL_FAILED
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error)) from error
    except ReportNotWrittenError as error:
        raise ResourceError(f"{error}; write it elsewhere: use --out FILE") from error
    _print(content, written, markdown=markdown, as_json=as_json)
    is_sent = written is not None and out is None and len(folders) == 1
    return sent(folders[0]) if is_sent else ExitCode.OK


def _print(content: Report, written: Written | None, *, markdown: bool, as_json: bool) -> None:
    """Prints the problems, then what was asked for, then what was written."""
    for problem in content.problems:
        click.echo(problem, err=True)
    if as_json:
        write_json(as_data(content))
    if written is None:
        return
    if markdown:
        click.echo(written.markdown)
    has_text = markdown or as_json
    if written.figures:
        folder = written.figures[0].parent.resolve()
        click.echo(f"{len(written.figures)} figures: {folder}", err=has_text)
    click.echo(str(written.page), err=has_text)
