"""Begins and ends a run: its name, its lock, and its ``run.json``."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from rlssl.errors import ExitCode
from rlssl.experiment.lock import held
from rlssl.experiment.run_folders import read_description, started_at
from rlssl.experiment.storage import LocalStorage, claim_name
from rlssl.registry import local_registrations
from rlssl.run_files import RUN_FILE, TRIAL_FILE
from rlssl.system.json_output import readable_json
from rlssl.system.stores.places import place_of_folder

#: Exit code of a run -> its state in ``run.json``.
_STATES = {
    ExitCode.OK: "finished",
    ExitCode.TRIAL_FAILED: "failed",
    ExitCode.INTERRUPTED: "interrupted",
}


@contextlib.contextmanager
def new_run(root: Path, name: str) -> Iterator[Path]:
    """Claims a name below ``root`` and holds the run's lock; gives the run's folder.

    If an error ends the run before its first trial begins, its folder is removed.

    Raises:
        OSError: If the folder cannot be created.
    """
    storage = _storage_of(root)
    claimed = claim_name(storage, name)
    folder = root / claimed
    click.echo(f"Run {claimed}" + ("" if claimed == name else f" ('{name}' exists)"))
    try:
        with held(folder):
            yield folder
    except BaseException:
        if next(folder.glob(f"*/{TRIAL_FILE}"), None) is None:
            storage.forget(claimed)
        raise


def delete_run(folder: Path) -> None:
    """Deletes a run, also from its object store."""
    _storage_of(folder.parent).forget(folder.name)


def _storage_of(root: Path) -> LocalStorage:
    place = place_of_folder(root)
    if place is None:
        return LocalStorage(root)
    # pyarrow takes a moment to import.
    from rlssl.experiment.remote.storage import CopiedStorage

    return CopiedStorage(place)


def write_description(folder: Path, name: str, is_sweep: bool, replay_bytes: int) -> None:
    """Writes ``run.json`` at the start of a run.

    Args:
        folder: The run's folder.
        name: The name that the user gave; the folder's may have a number.
        is_sweep: Whether the run ends with a table.
        replay_bytes: Bytes of memory of the replay buffer of a trial.
    """
    # `resume` and `evaluate` may run in another folder, and must find plug-ins beside the spec.
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    by_script = sorted(name for table in local_registrations().values() for name in table)
    run = {"name": name, "started": time.time(), "is_sweep": is_sweep, "python_path": paths}
    further = {"registered_by_script": by_script, "replay_bytes": replay_bytes}
    _write(folder, {**run, **further, "state": "running"})


def record_state(folder: Path, code: int) -> None:
    """Notes in ``run.json`` how a run ended, also on its object store."""
    _update(folder, state=_STATES[ExitCode(code)])
    place = place_of_folder(folder)
    if place is not None:
        # pyarrow takes a moment to import.
        from rlssl.system.stores.objects import Objects

        # Without an answer, the store is told at the next resume.
        with contextlib.suppress(OSError):
            Objects(place).put(RUN_FILE, (folder / RUN_FILE).read_bytes())


def record_resumed(folder: Path, **changes: Any) -> None:
    """Notes in ``run.json`` that a run continues, and further changes."""
    _update(folder, state="running", **changes)


def _update(folder: Path, **changes: Any) -> None:
    known = read_description(folder)
    if known:
        # Runs of earlier versions show their start only by the time of this file.
        _write(folder, {"started": started_at(folder), **known, **changes})


def _write(folder: Path, run: Mapping[str, Any]) -> None:
    content = readable_json(run, indent=2).encode()
    LocalStorage(folder.parent).replace(f"{folder.name}/{RUN_FILE}", content)
