"""`rlssl runs`: lists the runs of a storage. It imports neither torch nor Ray, so it is fast."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlssl.clocks import ENV_STEPS, UPDATES, WORDS, clock_of
from rlssl.errors import DEFAULT_STORAGE, ExitCode
from rlssl.experiment import lock
from rlssl.experiment.run_folders import all_runs, last_result, read_description, started_at
from rlssl.run_files import ERROR_FILE, SWEEP_SPEC_FILE, TRIAL_FILE
from rlssl.system.json_output import write_json
from rlssl.system.stores.places import is_uri, local_folder, parse_place, place_of_folder
from rlssl.system.yaml_files import read_yaml


@dataclasses.dataclass(frozen=True)
class RunRow:
    """A line of the list.

    Attributes:
        name: Path of the run below the storage.
        state: running: a process holds its lock. finished, failed, interrupted: how it ended; a
            run whose process was killed is interrupted.
        algorithm: Names, if the run searches over several.
        env: As for ``algorithm``.
        losses: Names of the auxiliary losses, also those that are searched.
        seeds: Of every point.
        trials: Number of trials that have started.
        env_steps: Sum over the trials, of their last results; 0 if the run samples nothing.
        updates: As for ``env_steps``, of a run that counts updates; None: it counts env steps.
        last_return: Mean over the trials of the return in their last results; None: no episode yet.
        age_s: Seconds since the run was started.
        path: The run's folder, or its URI.
    """

    name: str
    state: str
    algorithm: str
    env: str
    losses: list[str]
    seeds: list[int]
    trials: int
    env_steps: int
    updates: int | None
    last_return: float | None
    age_s: float
    path: str


def runs(*, storage: str = DEFAULT_STORAGE, as_json: bool = False) -> int:
    """Prints all runs below a storage, newest first; returns the exit code.

    Args:
        storage: The folder, or the URI, of all results.
        as_json: Whether to print JSON.

    Example:
        >>> int(runs(storage="/nowhere"))
        There are no runs below /nowhere.
        0
    """
    root = local_folder(storage).resolve()
    rows = [describe_run(folder, root) for folder in _runs_of(storage, root)]
    if as_json:
        write_json([dataclasses.asdict(row) for row in rows])
    elif not rows:
        click.echo(f"There are no runs below {storage if is_uri(storage) else root}.")
    else:
        _print(rows)
    return ExitCode.OK


def _runs_of(storage: str, root: Path) -> list[Path]:
    """The folders of all runs, newest first; runs on an object store are fetched."""
    place = parse_place(storage)
    if place is None:
        return all_runs(root)
    # pyarrow takes a moment to import.
    from rlssl.experiment.remote.fetch import fetch_all

    known = set(fetch_all(place))
    return [folder for folder in all_runs(root) if folder in known]


def describe_run(folder: Path, root: Path) -> RunRow:
    """Reads the few files that say what a run is and where it stands."""
    spec = _read_spec(folder / SWEEP_SPEC_FILE)
    search = spec.get("search")
    searched = search if isinstance(search, dict) else {}
    trials = sorted(path.parent for path in folder.glob(f"*/{TRIAL_FILE}"))
    results = [result for trial in trials if (result := last_result(trial)) is not None]
    returns = [value for value in map(_return, results) if value is not None]
    all_done = bool(trials) and sum(bool(row.get("done")) for row in results) == len(trials)
    place = place_of_folder(folder)
    return RunRow(
        name=str(folder.relative_to(root)),
        state=state_of(folder, all_done=all_done),
        algorithm=_names(spec.get("algorithm"), searched.get("algorithm")),
        env=_names((spec.get("env") or {}).get("id"), searched.get("env.id")),
        losses=_losses(spec, searched),
        seeds=list(spec.get("seeds") or []),
        trials=len(trials),
        env_steps=sum(int(result.get(ENV_STEPS) or 0) for result in results),
        updates=_updates(spec, results),
        last_return=sum(returns) / len(returns) if returns else None,
        age_s=max(0.0, time.time() - started_at(folder)),
        path=str(folder) if place is None else place.uri,
    )


def state_of(folder: Path, *, all_done: bool) -> str:
    """The state of a run: running, finished, failed or interrupted.

    Args:
        folder: The run's folder.
        all_done: Whether the last result of every trial ended it.

    Example:
        >>> state_of(Path("/nowhere"), all_done=True)
        'finished'
    """
    if lock.running(folder):
        return "running"
    noted = read_description(folder).get("state")
    if noted in ("finished", "failed", "interrupted"):
        return str(noted)
    if all_done:
        return "finished"
    # A run that was killed, or a run of an earlier version, which noted nothing.
    has_failed = noted is None and next(folder.glob(f"*/{ERROR_FILE}"), None) is not None
    return "failed" if has_failed else "interrupted"


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return spec if isinstance(spec, dict) else {}


def _names(fixed: Any, searched: Any) -> str:
    names = [str(value) for value in _choices(searched)] or [str(fixed or "?")]
    return " or ".join(names)


def _losses(spec: Mapping[str, Any], searched: Mapping[str, Any]) -> list[str]:
    names = {name for name, options in (spec.get("auxiliary") or {}).items() if options is not None}
    for key, space in searched.items():
        if key == "auxiliary":
            names |= {
                name for choice in _choices(space) if isinstance(choice, dict) for name in choice
            }
        elif key.startswith("auxiliary."):
            names.add(key.split(".")[1])
    return sorted(names)


def _choices(space: Any) -> Iterator[Any]:
    """The values of ``{grid: [...]}`` or ``{choice: [...]}``; nothing for a range."""
    for values in space.values() if isinstance(space, dict) else []:
        yield from values if isinstance(values, list) else []


def _updates(spec: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> int | None:
    """Updates of all trials; None if the run counts env steps."""
    stop = spec.get("stop")
    known = results[0] if results else stop if isinstance(stop, dict) else {}
    if clock_of(known) != UPDATES:
        return None
    return sum(int(result.get(UPDATES) or 0) for result in results)


def _return(result: Mapping[str, Any]) -> float | None:
    value = result.get("episode_return_mean")
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _print(rows: list[RunRow]) -> None:
    terminal = Console()
    columns = list(_COLUMNS)
    if terminal.is_terminal:
        for name in _CAN_BE_LEFT_OUT:
            if _width(_table(rows, columns)) > terminal.width:
                columns.remove(name)
    table = _table(rows, columns)
    # As wide as the longest line, so that a name to copy is never wrapped.
    console = Console(width=max(80, _width(table)), highlight=False)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _table(rows: list[RunRow], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        table.add_column(name, no_wrap=True, overflow="crop", justify=justify)
    for row in rows:
        table.add_row(*(Text(_COLUMNS[name](row)) for name in columns))
    return table


def _width(table: Table) -> int:
    return Console(width=10_000).measure(table).maximum


def _seeds(seeds: list[int]) -> str:
    """Seeds in few letters: ``0-4``, or ``0, 7``, or their number."""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds)) if len(seeds) <= 3 else f"{len(seeds)} seeds"


def age(seconds: float) -> str:
    """A time span in its largest unit.

    Example:
        >>> age(59), age(150), age(90_000), age(4_000_000)
        ('59 s', '2 min', '25 h', '46 d')
    """
    for size, unit in ((2 * 86_400, "d"), (2 * 3_600, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds // (size // 2):.0f} {unit}"
    return f"{seconds:.0f} s"


def _steps(row: RunRow) -> str:
    """How far a run is, on its own clock."""
    return f"{row.env_steps:,}" if row.updates is None else f"{row.updates:,} {WORDS[UPDATES]}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


#: Header of a column -> its text for a run.
_COLUMNS: Mapping[str, Callable[[RunRow], str]] = {
    "run": lambda row: row.name,
    "state": lambda row: row.state,
    "algorithm": lambda row: row.algorithm,
    "env": lambda row: row.env,
    "losses": lambda row: ", ".join(row.losses) or "-",
    "seeds": lambda row: _seeds(row.seeds),
    "env steps": _steps,
    "return": lambda row: _score(row.last_return),
    "age": lambda row: age(row.age_s),
}
_NUMBERS = ("seeds", "env steps", "return", "age")
#: On a narrow terminal, columns are left out in this order until the list fits.
_CAN_BE_LEFT_OUT = ("env", "algorithm", "losses", "seeds")
