"""Finds runs on disk by name or by any path of theirs.

This module imports neither torch nor Ray, so that ``rlssl runs`` is fast.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click

from rlssl.errors import DEFAULT_STORAGE, SpecError, did_you_mean
from rlssl.run_files import MANIFEST, POLICY_FILE, POLICY_FOLDER, RESULTS_FILE, RUN_FILE, TRIAL_FILE
from rlssl.system.stores.places import is_uri, local_folder, parse_place, place_of_folder
from rlssl.zoo import PREFIX as ZOO
from rlssl.zoo import zoo_folder

#: What a command needs of a run.
Need = Literal["run", "checkpoint", "policy"]

#: Need -> the files of which a run must have one.
_NEEDED = {
    "run": RUN_FILE,
    "checkpoint": f"*/checkpoint_*/{MANIFEST}",
    "policy": f"*/checkpoint_*/{POLICY_FOLDER}/{POLICY_FILE}",
}
#: The folders that rlssl prints: a run, a trial, a checkpoint, and a policy or an export.
_MARKERS = (RUN_FILE, TRIAL_FILE, MANIFEST, POLICY_FILE)
#: The last bytes of a trial's log that are read; a result has a few thousand.
_TAIL_BYTES = 2**17
#: A run is at most so many folders above a path that rlssl prints: run/trial/checkpoint/policy.
_MOST_ABOVE = 3


def locate(run: str | Path, storage: str = DEFAULT_STORAGE, *, having: Need = "run") -> Path:
    """The absolute folder that the user means: of a run, a trial, a checkpoint or a policy.

    Args:
        run: A folder, a file in it, a URI, or the name of a run below ``storage``. If several runs
            have the name, the newest one that has what is needed is taken, and a line says which.
            A run on an object store is fetched into its local copy. If a policy is needed,
            ``zoo/ppo/CartPole-v1`` is one that comes with rlssl.
        storage: The folder, or the URI, in which names are looked up.
        having: What is needed of a run that is given by its name.

    Raises:
        SpecError: If there is no such run.

    Example:
        >>> locate("no-such-run", storage="/nowhere")
        Traceback (most recent call last):
        rlssl.errors.SpecError: no run 'no-such-run': it is neither a folder nor the name of a run \
below /nowhere.
    """
    if having == "policy" and str(run).startswith(ZOO) and not Path(run).exists():
        return zoo_folder(str(run))
    run, root = _fetched(run, storage, having)
    path = Path(run).expanduser()
    folder = path.parent if path.is_file() else path
    is_known = folder.is_dir() and any((folder / marker).is_file() for marker in _MARKERS)
    named = [] if is_known else runs_named(str(run), root)
    if named:
        return _newest(str(run), named, having).resolve()
    if folder.is_dir():
        return _nearest_known(folder.resolve())
    store = parse_place(str(storage))
    where = root.resolve() if store is None else store.uri
    names = [str(folder.relative_to(root)) for folder in _runs_below(root)]
    raise SpecError(
        f"no run '{run}': it is neither a folder nor the name of a run below {where}"
        f"{did_you_mean(str(run), names) or '.'}{_hint(where)}"
    )


def _fetched(run: str | Path, storage: str | Path, having: Need) -> tuple[str | Path, Path]:
    """Fetches a run that is on an object store.

    Returns:
        The run and the storage as this machine has them.
    """
    store, root = parse_place(str(storage)), local_folder(storage)
    place = parse_place(str(run), "run") if is_uri(run) else None
    if place is None:
        run = local_folder(run, "run") if is_uri(run) else run
        path = Path(run).expanduser()
        place = place_of_folder(path) if path.exists() else None
    if place is None and (store is None or Path(run).is_absolute()):
        return run, root
    # pyarrow takes a moment to import.
    from rlssl.experiment.remote.fetch import fetch_named, fetch_path

    if place is not None:
        return fetch_path(place, with_checkpoints=having != "run"), root
    assert store is not None
    pattern = _names_like(str(run))
    fetch_named(str(run), store, pattern, None if having == "run" else _NEEDED[having])
    return run, root


def _nearest_known(folder: Path) -> Path:
    """The trial or run in which a folder lies, as the folder of saved tracebacks does."""
    around = (folder, *list(folder.parents)[:_MOST_ABOVE])
    known = (one for one in around if any((one / marker).is_file() for marker in _MARKERS))
    return next(known, folder)


def _newest(name: str, named: list[Path], having: Need) -> Path:
    """The newest of the runs that has what is needed; says which if there are several."""
    fitting = [folder for folder in named if next(folder.glob(_NEEDED[having]), None) is not None]
    if len(named) == 1:
        return named[0]
    if not fitting:
        listed = ", ".join(folder.name for folder in named)
        raise SpecError(f"none of the {len(named)} runs named '{name}' has a {having}: {listed}.")
    found = "" if having == "run" else f" that has a {having}"
    click.echo(
        f"{len(named)} runs have the name '{name}'; this is the newest{found}: {fitting[0].name}",
        err=True,
    )
    return fitting[0]


def runs_named(name: str, root: Path) -> list[Path]:
    """The folders of all runs with a name, newest first.

    A run has its folder's name, and the name that it was started with: the folder of a second run
    named ``ppo`` is ``ppo-2``. Earlier versions appended a time instead of a number.
    """
    if Path(name).is_absolute():
        return []
    parent = (root / name).parent
    pattern = _names_like(name)
    try:
        folders = [child for child in parent.iterdir() if pattern.fullmatch(child.name)]
    except OSError:
        return []
    found = [folder for folder in folders if (folder / RUN_FILE).is_file()]
    return sorted((folder for folder in found if _has_name(folder, name)), key=_age_order)


def _names_like(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(Path(name).name) + r"(-\d+|-\d{8}-\d{6})?")


def _has_name(folder: Path, name: str) -> bool:
    base = Path(name).name
    if folder.name == base:
        return True
    given = read_description(folder).get("name")
    # Runs of earlier versions do not say with which name they were started.
    is_stamped = re.fullmatch(re.escape(base) + r"-\d{8}-\d{6}", folder.name) is not None
    return is_stamped if given is None else Path(str(given)).name == base


def _age_order(folder: Path) -> tuple[float, str]:
    return -started_at(folder), folder.name


def started_at(folder: Path) -> float:
    """When a run was started, in seconds since 1970."""
    started = read_description(folder).get("started")
    # Runs of earlier versions wrote the file at the start, and never again.
    if isinstance(started, int | float):
        return float(started)
    return (folder / RUN_FILE).stat().st_mtime


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a run's ``run.json``; {} if it is missing or damaged."""
    try:
        content = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def all_runs(root: Path) -> list[Path]:
    """The folders of all runs below ``root``, newest first; runs may be in folders of folders."""
    return sorted(_runs_below(root), key=_age_order)


def _runs_below(folder: Path) -> Iterator[Path]:
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if (child / RUN_FILE).is_file():
            yield child
        elif not child.is_symlink():
            yield from _runs_below(child)


def sweep_folder(folder: Path) -> Path:
    """The folder of the whole run, from any folder in it; a folder outside of a run itself."""
    for above in (folder, *list(folder.parents)[:_MOST_ABOVE]):
        if (above / RUN_FILE).is_file():
            return above
    trial = trial_folder(folder)
    return folder if trial is None else trial.parent


def trial_folder(folder: Path) -> Path | None:
    """The folder of the trial that holds a folder; None for a run, or outside of a trial."""
    for above in (folder, *list(folder.parents)[: _MOST_ABOVE - 1]):
        if (above / TRIAL_FILE).is_file():
            return above
        if (above / RUN_FILE).is_file():
            return None
    return None


def checkpoint_folder(folder: Path) -> Path | None:
    """The checkpoint that a folder is, or whose policy it is; None for all other folders."""
    return next((one for one in (folder, folder.parent) if (one / MANIFEST).is_file()), None)


def trial_folders(folder: Path) -> list[Path]:
    """The folders of a run's trials; ``[folder]`` if ``folder`` is a trial's.

    Raises:
        SpecError: If the run has no trials.
    """
    if (folder / TRIAL_FILE).is_file():
        return [folder]
    trials = sorted(path.parent for path in folder.glob(f"*/{TRIAL_FILE}"))
    if not trials:
        raise SpecError(f"{folder} has no trials.")
    return trials


def last_result(trial: Path) -> dict[str, Any] | None:
    """The last whole line of a trial's log; None if there is none."""
    try:
        with (trial / RESULTS_FILE).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            result = json.loads(line)
        except ValueError:  # half a line of a process that was killed, or that writes just now
            continue
        if isinstance(result, dict):
            return result
    return None


def _hint(root: Path | str) -> str:
    is_there = isinstance(root, str) or root.is_dir()
    return f" List them: rlssl runs --storage {root}" if is_there else ""
