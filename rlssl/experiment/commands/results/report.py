"""`rlssl report`: one HTML page about one or several runs."""

from collections.abc import Sequence
from pathlib import Path

import click

from rlssl.analysis.report import ReportNotWrittenError, read_report, write_report
from rlssl.errors import DEFAULT_STORAGE, ExitCode, MissingExtraError, ResourceError, SpecError
from rlssl.experiment import lock
from rlssl.experiment.commands.summary import sent
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.run_files import REPORT_FILE


def report(
    runs: Sequence[str],
    *,
    storage: str = DEFAULT_STORAGE,
    out: Path | None = None,
    figures: Path | None = None,
    markdown: bool = False,
) -> int:
    """Writes the report, and prints its path; reads only the results of the runs.

    Args:
        runs: Names of runs, or any paths that they have printed.
        storage: The folder in which names are looked up.
        out: The HTML file. None: ``report.html`` in the folder of the run, or in the current folder
            for several runs.
        figures: Folder for PNG and SVG files of the figures; None: none are written.
        markdown: Whether the summary is printed as Markdown.

    Returns:
        The exit code: 1 if no run has a result that can be read.

    Raises:
        SpecError: If there is no such run, or the file cannot be in such a folder.
        MissingExtraError: If the extra ``report`` is not installed.
        ResourceError: If the page cannot be written.
    """
    folders = list(dict.fromkeys(sweep_folder(locate(run, storage)) for run in runs))
    target = out or (folders[0] / REPORT_FILE if len(folders) == 1 else Path(REPORT_FILE))
    if not target.resolve().parent.is_dir():
        raise SpecError(
            f"--out {target}: {target.resolve().parent} is not a folder; make it first."
        )
    try:
        content = read_report(folders, running=list(filter(lock.running, folders)))
        written = write_report(content, target, figures=figures)
    except ValueError as error:
        click.echo(str(error), err=True)
        return ExitCode.TRIAL_FAILED
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error)) from error
    except ReportNotWrittenError as error:
        raise ResourceError(f"{error}; write it elsewhere: use --out FILE") from error
    for problem in content.problems:
        click.echo(problem, err=True)
    if markdown:
        click.echo(written.markdown)
    if figures is not None:
        click.echo(f"{len(written.figures)} figures: {figures.resolve()}", err=markdown)
    click.echo(str(written.page), err=markdown)
    return sent(folders[0]) if out is None and len(folders) == 1 else ExitCode.OK
