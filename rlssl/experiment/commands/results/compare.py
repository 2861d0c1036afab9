"""`rlssl compare`: two runs or points, their difference, and how sure it is."""

import math
from pathlib import Path

import click
from rich.console import Console

from rlssl.analysis.comparison import Comparison, Side, compare, read_side
from rlssl.analysis.comparison.curves import save_picture, share_an_axis, text_curves
from rlssl.analysis.comparison.sides import objective_of
from rlssl.analysis.comparison.text import as_data, lines_below, tables
from rlssl.analysis.results import Run, read_run
from rlssl.analysis.sparkline import symbols_of
from rlssl.errors import (
    DEFAULT_STORAGE,
    ExitCode,
    MissingExtraError,
    ResourceError,
    SpecError,
    suggest,
)
from rlssl.experiment.run_folders import locate, trial_folder
from rlssl.system.files import cannot_write
from rlssl.system.json_output import write_json
from rlssl.system.stores.places import is_uri

#: Suffixes that matplotlib can write without a further library.
PICTURES = (".png", ".svg", ".pdf")


def compare_runs(
    first: str,
    second: str,
    *,
    metric: str | None = None,
    mode: str | None = None,
    out: Path | None = None,
    storage: str = DEFAULT_STORAGE,
    as_json: bool = False,
) -> int:
    """Prints how two runs or points differ; reads only their results.

    Args:
        first: A run, or RUN:POINT with the label or the index of a point.
        second: As ``first``.
        metric: A key of the results, or "area"; None: the final return.
        mode: Whether higher ("max") or lower ("min") values of the metric are better.
        out: Where to save the learning curves as a picture; None: nowhere.
        storage: The folder in which names are looked up.
        as_json: Whether to print JSON.

    Returns:
        The exit code, 0, whatever the comparison says.

    Raises:
        SpecError: If there is no such run, point or metric, or the picture has a wrong suffix.
        ResourceError: If the picture cannot be written.
        MissingExtraError: If the picture needs the extra ``report``, which is not installed.
    """
    if mode is not None and metric is None:
        raise SpecError("--mode is about --metric, and higher returns are better; leave it out.")
    if out is not None:
        _check_picture(out)
    named = [_run_and_point(text, storage) for text in (first, second)]
    objectives = [objective_of(metric, mode, run.trials) for run, _ in named]
    ours, theirs = (
        read_side(run, point, objective=objective)
        for (run, point), objective in zip(named, objectives, strict=True)
    )
    if metric is not None and not (ours.scores or theirs.scores):
        raise _no_metric(metric, [ours, theirs])
    found = compare(ours, theirs, objectives[0])
    picture = None if out is None else _saved(ours, theirs, out)
    if as_json:
        curves = text_curves([ours, theirs], metric) if share_an_axis(found.unlike) else None
        write_json(as_data(found, curves))
    else:
        _print(found, metric, [problem for run, _ in named for problem in run.problems])
    if picture is not None:
        click.echo(str(picture), err=as_json)
    return ExitCode.OK


def _saved(ours: Side, theirs: Side, out: Path) -> Path:
    try:
        return save_picture(ours, theirs, out)
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error)) from error
    except OSError as error:
        raise ResourceError(
            f"{cannot_write(out, error)}; write it elsewhere with --out."
        ) from error


def _run_and_point(text: str, storage: str) -> tuple[Run, str | None]:
    """The run of ``RUN`` or ``RUN:POINT``, and the point."""
    name, point = text, None
    if not Path(text).exists():
        scheme, mark, rest = text.partition("://") if is_uri(text) else ("", "", text)
        rest, colon, found = rest.partition(":")
        name, point = f"{scheme}{mark}{rest}", found if colon else None
    folder = locate(name, storage)
    try:
        return read_run(trial_folder(folder) or folder), point
    except (FileNotFoundError, ValueError) as error:
        raise SpecError(str(error)) from error


def _check_picture(out: Path) -> None:
    if out.suffix.lower() not in PICTURES:
        raise SpecError(f"--out {out} must end in {', '.join(PICTURES)}.")
    if not out.resolve().parent.is_dir():
        raise SpecError(f"--out {out}: there is no folder {out.resolve().parent}; make it first.")


def _no_metric(metric: str, sides: list[Side]) -> SpecError:
    known = {
        key
        for side in sides
        for trial in side.counted
        for row in trial.results[-1:]
        for key, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    close = suggest(metric, known)
    hint = close if "did you mean" in close else "; the keys are in progress.csv of a trial."
    return SpecError(f"--metric {metric}: no result of either side has a value of it{hint}")


def _print(found: Comparison, metric: str | None, problems: list[str]) -> None:
    console = Console()
    sides, curves = (found.first, found.second), None
    if share_an_axis(found.unlike):
        width, symbols = _bars(console), symbols_of(console)
        curves = text_curves(sides, metric, width=width, symbols=symbols)
    console.print(found.verdict, markup=False, highlight=False, soft_wrap=True)
    for table in tables(found, curves):
        console.print(table)
    for line in lines_below(found, curves):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for problem in dict.fromkeys(problems):
        click.echo(problem, err=True)


def _bars(console: Console) -> int:
    """Bars of a curve that two columns beside the names have room for."""
    return min(max((console.width - 26) // 2, 10), 60)
