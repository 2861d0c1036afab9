"""Fetches runs from an object store into their local copies: what is missing there or newer.

The driver of a run works in its local copy, which so is ahead of the store. ``writer.json`` on the
store says which copy that is. All other copies follow the store.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import click

from rlssl.errors import SpecError
from rlssl.experiment.remote import checkpoints
from rlssl.experiment.remote.logs import (
    PARTS,
    Part,
    checksum_of,
    matching,
    newest_generation,
    parts_of,
)
from rlssl.experiment.remote.storage import CLAIM
from rlssl.run_files import (
    EVENT_FILES,
    LOCK_FILE,
    MANIFEST,
    POLICY_FILE,
    RESULTS_FILE,
    RUN_FILE,
    SWEEP_SPEC_FILE,
    TRIAL_FILE,
)
from rlssl.system.stores.objects import ObjectInfo, Objects, refused
from rlssl.system.stores.places import Place

#: Which local copy is ahead of the store: an object in a run, and a file in the copy's folder.
WRITER, WRITER_FILE = "writer.json", ".writer.json"

#: A run is at most so many names above what the user gives: run/trial/checkpoint/policy.
_MOST_ABOVE = 3

Listing = Mapping[str, ObjectInfo]


def fetch_path(place: Place, *, with_checkpoints: bool) -> Path:
    """Fetches what a URI names: a run, a trial, a checkpoint, a policy or an export.

    Args:
        place: The place that the user gave.
        with_checkpoints: Whether the newest checkpoint of each trial is needed.

    Returns:
        The folder of the local copy.

    Raises:
        SpecError: If there is nothing of this kind, or no valid checkpoint.
        ResourceError: If the store cannot be read.
    """
    with refused(place, "run"):
        run = _run_of(place)
        if run is not None:
            _fetch_run(run, place.path[len(run.path) + 1 :], with_checkpoints)
        elif Objects(place).info(POLICY_FILE) is not None:
            objects = Objects(place)
            _fetch_files(objects, place.create_folder(), objects.listing())
        else:
            Objects(place).require_bucket()
            raise SpecError(f"no run '{place.uri}': it has no {RUN_FILE}.")
    return place.folder


def fetch_named(name: str, storage: Place, pattern: "re.Pattern[str]", needed: str | None) -> None:
    """Fetches the newest run with a name, and the descriptions of all others with this name.

    Args:
        name: Below the storage.
        storage: Where names are looked up.
        pattern: What the names of folders look like.
        needed: Pattern of an object that the run must have, as of a checkpoint; None: none.

    Raises:
        ResourceError: If the store cannot be read.
    """
    folder = PurePosixPath(name).parent
    above = storage if str(folder) == "." else storage.child(str(folder))
    with refused(storage):
        Objects(storage).require_bucket()
        found = {
            one: Objects(above.child(one))
            for one in Objects(above).folders()
            if pattern.fullmatch(one) and Objects(above.child(one)).info(RUN_FILE) is not None
        }
        for run in found.values():
            _fetch_only(run, run.place.create_folder(), [RUN_FILE])
        for run in sorted(found.values(), key=_started, reverse=True):
            listing = run.listing()
            if needed is None or any(PurePosixPath(it).match(needed) for it in listing):
                _fetch_run(run.place, "", needed is not None)
                return


def fetch_all(storage: Place) -> list[Path]:
    """Fetches what `rlssl runs` shows of every run below a storage; returns their folders.

    Raises:
        ResourceError: If the store cannot be read.
    """
    shown = (RUN_FILE, SWEEP_SPEC_FILE, TRIAL_FILE)
    with refused(storage):
        Objects(storage).require_bucket()
        listing = Objects(storage).listing()
        found = []
        for name in listing:
            path = PurePosixPath(name)
            if path.name != RUN_FILE:
                continue
            run = Objects(storage.child(str(path.parent)))
            folder = run.place.create_folder()
            if not is_writer(run, folder):
                own = below(listing, str(path.parent))
                wanted = {
                    each: info
                    for each, info in own.items()
                    if PurePosixPath(each).name in shown
                    or PurePosixPath(each).parent.name == RESULTS_FILE + PARTS
                }
                _fetch_files(run, folder, wanted)
            found.append(folder)
    return found


def fetch_checkpoints(folder: Path, place: Place) -> None:
    """Fetches the newest valid checkpoint of each trial of a run.

    Args:
        folder: The local copy of the run.
        place: The run.

    Raises:
        SpecError: If a trial has checkpoints, and none of them is valid.
        ResourceError: If the store cannot be read.
    """
    with refused(place, "run"):
        run = Objects(place)
        _fetch_newest(run, folder, run.listing())


def fetch_beside(place: Place, name: str, *others: str) -> None:
    """Fetches files of every run in the same storage that has the first of them.

    Args:
        place: A run.
        name: The first file.
        others: Further files, where the run has them.

    Raises:
        ResourceError: If the store cannot be read.
    """
    with refused(place, "run"):
        for folder in Objects(place.parent).folders():
            run = Objects(place.parent.child(folder))
            if run.info(name) is not None:
                _fetch_only(run, run.place.create_folder(), [name, *others])


def fetch_logs(trial: Objects, folder: Path) -> None:
    """Fetches the log of a trial, unless this machine writes it."""
    run = Objects(trial.place.parent)
    if not is_writer(run, folder.parent):
        _fetch_files(trial, folder, below(trial.listing(RESULTS_FILE + PARTS), ""))


def is_writer(run: Objects, folder: Path) -> bool:
    """Whether a local copy is the one that is ahead of the store."""
    try:
        own = (folder / WRITER_FILE).read_bytes()
    except OSError:
        return False
    return run.get(WRITER) == own


def below(listing: Listing, name: str) -> dict[str, ObjectInfo]:
    """The part of a list that is below a name, relative to it."""
    prefix = f"{name}/" if name and name != "." else ""
    return {each[len(prefix) :]: info for each, info in listing.items() if each.startswith(prefix)}


def _run_of(place: Place) -> Place | None:
    """The run that a place is in; None if it is in none."""
    for _ in range(_MOST_ABOVE + 1):
        if Objects(place).info(RUN_FILE) is not None:
            return place
        place = place.parent
        if "/" not in place.path:
            return None
    return None


def _started(run: Objects) -> float:
    try:
        return float(json.loads((run.place.folder / RUN_FILE).read_bytes())["started"])
    except (KeyError, OSError, TypeError, ValueError):
        return 0.0


def _fetch_run(place: Place, inside: str, with_checkpoints: bool) -> None:
    """Fetches a run.

    Args:
        place: The run.
        inside: What is needed of the run: "" or the path of a trial or a checkpoint.
        with_checkpoints: Whether checkpoints are needed.
    """
    run, folder = Objects(place), place.create_folder()
    listing = run.listing()
    parents = {str(PurePosixPath(name).parent) for name in listing}
    if not is_writer(run, folder):
        _set_aside(folder, place)
        _fetch_files(run, place.create_folder(), listing)
        for path in folder.glob(f"*/{EVENT_FILES}"):
            if f"{path.relative_to(folder).as_posix()}{PARTS}" not in parents:
                path.unlink()  # the run has begun another one
    trial, _, rest = inside.partition("/")
    wanted = rest.partition("/")[0]
    if PurePosixPath(wanted).match(checkpoints.PATTERN):
        objects = Objects(place.child(trial))
        for one in checkpoints.committed(objects, below(listing, trial)):
            if one.name == wanted:
                checkpoints.fetch(objects, one, folder / trial / wanted)
    elif with_checkpoints:
        _fetch_newest(run, folder, listing, trial)


def _fetch_newest(run: Objects, folder: Path, listing: Listing, only: str = "") -> None:
    for name in listing:
        trial, _, file = name.partition("/")
        if file == TRIAL_FILE and only in ("", trial):
            own = below(listing, trial)
            checkpoints.fetch_newest(Objects(run.place.child(trial)), folder / trial, own)


def _set_aside(folder: Path, place: Place) -> None:
    """Renames a local copy that was ahead of the store, until another machine went on."""
    if not (folder / WRITER_FILE).is_file():
        return
    aside = folder.with_name(f".{folder.name}.superseded-{int(time.time())}")
    folder.rename(aside)
    click.echo(
        f"{place.uri} was continued from another local copy. The copy of this machine, which it "
        f"does not need any more, is now {aside}",
        err=True,
    )


def _fetch_files(objects: Objects, folder: Path, listing: Listing) -> None:
    """Fetches the files of a run that are no checkpoints, where they differ from the local copy."""
    parts = parts_of(listing)
    plain = [name for name in listing if _is_plain(name) and _differs(folder / name, listing[name])]

    def fetch_plain(name: str) -> None:
        # An object that was deleted meanwhile is no error.
        with contextlib.suppress(FileNotFoundError):
            objects.get_file(name, _inside(folder, name))
            mtime = listing[name].mtime
            os.utime(folder / name, (mtime, mtime))

    def fetch_log(name: str) -> None:
        _put_together(objects, name, newest_generation(parts[name]), _inside(folder, name))

    _parallel(fetch_plain, plain)
    _parallel(fetch_log, parts)


def _fetch_only(objects: Objects, folder: Path, names: Iterable[str]) -> None:
    if is_writer(objects, folder):
        return
    infos = {name: objects.info(name) for name in names}
    _fetch_files(objects, folder, {name: it for name, it in infos.items() if it is not None})


def _parallel(function: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(checkpoints.THREADS) as pool:
        list(pool.map(function, names))


def _is_plain(name: str) -> bool:
    """Whether an object is a whole file, and of interest to readers."""
    path = PurePosixPath(name)
    is_of_checkpoint = any(folder.match(checkpoints.PATTERN) for folder in path.parents)
    is_of_store = path.name in (CLAIM, WRITER, MANIFEST) or path.name.startswith(LOCK_FILE)
    return not (is_of_checkpoint or is_of_store or path.parent.name.endswith(PARTS))


def _differs(path: Path, info: ObjectInfo) -> bool:
    try:
        found = path.stat()
    except OSError:
        return True
    return found.st_size != info.size or abs(found.st_mtime - info.mtime) > 1e-3


def _inside(folder: Path, name: str) -> Path:
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder):
        raise SpecError(f"{name!r} is no name of an object in a run.")
    return path


def _put_together(objects: Objects, name: str, parts: list[Part], path: Path) -> None:
    """Writes a file from its parts; fetches those that the local copy does not have."""
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    end = matching(parts, content)
    if parts and end == len(content) == parts[-1].end:
        return
    pieces, expected = [content[:end]], end
    for part in parts:
        if part.offset < end:
            continue
        uri = objects.place.child(f"{name}{PARTS}/{part.name}").uri
        if part.offset != expected:
            click.echo(f"{uri}: an object before this one is missing; its rows are lost.", err=True)
        data: Any = objects.get(f"{name}{PARTS}/{part.name}")
        if data is None or checksum_of(data) != part.checksum:
            click.echo(f"{uri} is damaged; its rows are lost.", err=True)
            data = b"\n"
        pieces.append(data)
        expected = part.end
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.fetching".replace("tfevents", "events"))
    temporary.write_bytes(b"".join(pieces))
    temporary.replace(path)
