"""`rlssl watch`: shows a running sweep, from its files only. It imports neither torch nor Ray."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rlssl.analysis.faults import fault_words, run_fault_words
from rlssl.analysis.live.following import RunFollower, RunProgress
from rlssl.analysis.live.table import summary_lines, trials_table
from rlssl.analysis.sparkline import symbols_of
from rlssl.errors import DEFAULT_STORAGE, ExitCode, SpecError
from rlssl.experiment import lock
from rlssl.experiment.commands.results.runs import state_of
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.system.interrupts import raise_if_interrupted
from rlssl.system.json_output import write_json
from rlssl.system.stores.places import local_folder, place_of_folder

#: Least seconds between two looks at a run on an object store: each look lists its objects.
STORE_PERIOD_S = 15.0

#: Lines of the terminal for the header of the table, its frame, and the prompt.
_OTHER_LINES = 5


def watch(
    run: str,
    *,
    storage: str = DEFAULT_STORAGE,
    once: bool = False,
    interval_s: float = 2.0,
    as_json: bool = False,
) -> int:
    """Shows the trials of a run until it has ended; returns the exit code.

    Args:
        run: A name below ``storage``, a folder of the run, or a URI.
        storage: The folder, or the URI, in which names are looked up.
        once: Whether to show the present state only. It is so if the output is not a terminal.
        interval_s: Seconds between two looks.
        as_json: Whether to print the present state as JSON.

    Raises:
        SpecError: If there is no such run.
        ResourceError: If the object store cannot be read.
    """
    folder = _find(run, storage)
    follower = RunFollower(folder)
    if as_json:
        state, progress = _look(follower, folder)
        write_json({"state": state, **_plain(progress)})
        return ExitCode.OK
    console = Console(highlight=False)
    if once or not console.is_terminal:
        state, progress = _look(follower, folder)
        _print(progress, _lines(progress, state, folder))
        return ExitCode.OK
    _follow(console, follower, folder, interval_s)
    return ExitCode.OK


def _follow(console: Console, follower: RunFollower, folder: Path, interval_s: float) -> None:
    is_on_store = place_of_folder(folder) is not None
    with Live(console=console, auto_refresh=False) as live:
        while True:
            state, progress = _look(follower, folder)
            live.update(_view(console, progress, state, folder), refresh=True)
            if state != "running":
                return
            time.sleep(max(interval_s, STORE_PERIOD_S) if is_on_store else interval_s)
            raise_if_interrupted()
            if is_on_store:
                locate(folder)  # fetches what is new


def _find(run: str, storage: str) -> Path:
    try:
        return sweep_folder(locate(run, storage))
    except SpecError:
        beginning = local_folder(storage) / run
        if lock.running(beginning.resolve()):
            return beginning.resolve()  # its process checks the spec and starts Ray
        raise


def _look(follower: RunFollower, folder: Path) -> tuple[str, RunProgress]:
    # In this order: the last results of a run are written before its end is noted.
    is_running = lock.running(folder)
    progress = follower.look(is_running=is_running)
    num_ended = progress.count("finished", "stopped")
    all_done = bool(progress.trials) and num_ended == progress.num_expected
    return ("running" if is_running else state_of(folder, all_done=all_done)), progress


def _view(console: Console, progress: RunProgress, state: str, folder: Path) -> Group:
    lines = _lines(progress, state, folder)
    num_rows = max(console.height - _OTHER_LINES - len(lines), 1)
    table, left_out = trials_table(
        progress, num_rows, width=console.width, symbols=symbols_of(console)
    )
    more = [Text(f"... and {left_out} more trials")] if left_out else []
    rows: list[RenderableType] = [table, *more, Text()] if progress.trials else []
    return Group(*rows, *map(Text, lines))


def _lines(progress: RunProgress, state: str, folder: Path) -> list[str]:
    """What is said below the table."""
    environments = fault_words([trial.faults for trial in progress.trials])
    faults = [environments, *run_fault_words(folder, progress.trials)]
    return [*summary_lines(progress, state), *(f"Faults: {line}" for line in faults if line)]


def _print(progress: RunProgress, lines: Sequence[str]) -> None:
    """Prints all trials; a line is as wide as it needs to be."""
    table, _ = trials_table(progress, None, width=100, symbols=symbols_of(Console()))
    width = Console(width=10_000).measure(table).maximum
    console = Console(width=max(80, width), highlight=False, color_system=None)
    with console.capture() as printed:
        if progress.trials:
            console.print(table)
    for line in (*printed.get().splitlines(), *[""] * bool(progress.trials), *lines):
        click.echo(line.rstrip())


def _plain(progress: RunProgress) -> dict[str, Any]:
    """The progress as plain data."""
    content = dataclasses.asdict(progress)
    content["points"] = [
        {"label": point.label, "score": point.score, "stopped_at": point.stopped_at}
        for point in progress.points
    ]
    return content
