"""Checkpoints on an object store.

Object stores cannot rename. So the files of a checkpoint are written first, and its manifest, which
has the checksum of each file, last. A checkpoint without a manifest does not exist.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rlssl.clocks import has_steps, steps_of
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints.manifest import check, newest_valid
from rlssl.run_files import MANIFEST
from rlssl.system.files import checksum
from rlssl.system.stores.objects import ObjectInfo, Objects
from rlssl.system.stores.places import place_of_folder

#: Name pattern of checkpoints.
PATTERN = "checkpoint_*"

#: Files that are sent or fetched at the same time.
THREADS = 8


@dataclass(frozen=True)
class Committed:
    """A checkpoint on a store that has a manifest.

    Attributes:
        name: ``checkpoint_000003``.
        content: Its manifest, as bytes.
        mtime: When the manifest was written, by the server's clock.
    """

    name: str
    content: bytes
    mtime: float

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest; {} if it is damaged."""
        try:
            read = json.loads(self.content)
        except ValueError:
            return {}
        is_whole = isinstance(read, dict) and has_steps(read) and "files" in read
        return read if is_whole else {}

    @property
    def env_steps(self) -> int:
        """The env steps of the checkpoint; -1 if its manifest is damaged."""
        return steps_of(self.manifest, -1)


def committed(trial: Objects, listing: Mapping[str, ObjectInfo] | None = None) -> list[Committed]:
    """The checkpoints of a trial on a store, the one with the most env steps first.

    Args:
        trial: The objects of a trial.
        listing: The objects below it, if the caller has listed them.
    """
    names = trial.listing() if listing is None else listing
    found = []
    for name, info in names.items():
        folder, _, file = name.partition("/")
        if file == MANIFEST and Path(folder).match(PATTERN):
            content = trial.get(name)
            if content is not None:
                found.append(Committed(folder, content, info.mtime))
    return sorted(found, key=lambda one: (-one.env_steps, -one.mtime))


def newest_env_steps(folder: Path) -> int | None:
    """The env steps of a trial's newest checkpoint, on this machine or on the store; None: none.

    Args:
        folder: The trial's folder.
    """
    local, place = newest_valid(folder), place_of_folder(folder)
    found = [] if local is None else [local.env_steps]
    if place is not None:
        with contextlib.suppress(OSError):  # the store does not answer now
            found += [one.env_steps for one in committed(Objects(place))]
    return max(found, default=None)


def send(trial: Objects, folder: Path, sent: set[str], keep: int) -> None:
    """Sends a finished checkpoint, then deletes older ones on the store.

    Args:
        trial: The objects of the trial.
        folder: The checkpoint, a folder on this machine.
        sent: Names of files that an earlier attempt has sent; this call adds to it.
        keep: Number of checkpoints that stay on the store.

    Raises:
        FileNotFoundError: If the checkpoint was deleted meanwhile.
        OSError: If the store does not answer; a later call goes on.
    """
    content = (folder / MANIFEST).read_bytes()
    if trial.get(f"{folder.name}/{MANIFEST}") == content:
        return
    if not sent:
        # An earlier checkpoint of the same name must not seem to be this one.
        trial.delete(f"{folder.name}/{MANIFEST}")
    missing = [name for name in json.loads(content)["files"] if name not in sent]

    def send_file(name: str) -> None:
        trial.put_file(f"{folder.name}/{name}", folder / name)
        sent.add(name)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send_file, missing))
    trial.put(f"{folder.name}/{MANIFEST}", content)
    prune(trial, keep)


def prune(trial: Objects, keep: int) -> None:
    """Deletes all but the newest checkpoints of a trial on the store; the manifest goes first."""
    newest_first = sorted(committed(trial), key=lambda one: -one.mtime)
    for old in newest_first[keep:]:
        trial.delete(f"{old.name}/{MANIFEST}")
        trial.delete_all(old.name)


def fetch_newest(
    trial: Objects, folder: Path, listing: Mapping[str, ObjectInfo] | None = None
) -> None:
    """Fetches the newest valid checkpoint of a trial, if this machine does not have it.

    A damaged checkpoint, or one with a missing object, is named; then an older one is fetched.

    Args:
        trial: The objects of the trial.
        folder: The trial's folder on this machine.
        listing: The objects below it, if the caller has listed them.

    Raises:
        SpecError: If the trial has checkpoints, and none of them is valid.
    """
    found = committed(trial, listing)
    known = newest_valid(folder)
    if known is not None:
        found = [one for one in found if one.env_steps > known.env_steps]
    reasons = []
    for one in found:
        try:
            fetch(trial, one, folder / one.name)
            return
        except SpecError as error:
            reasons.append(str(error))
            click.echo(f"Skipping a checkpoint: {error}", err=True)
    if found and known is None:
        raise SpecError(
            f"{trial.place.uri} has no valid checkpoint left: {reasons[0]} Delete its checkpoint_* "
            "objects to restart this trial from the beginning."
        )


def fetch(trial: Objects, wanted: Committed, target: Path) -> None:
    """Fetches a checkpoint, and checks every file.

    Args:
        trial: The objects of the trial.
        wanted: From `committed`.
        target: The folder of the checkpoint on this machine. It appears complete, or not at all.

    Raises:
        SpecError: If an object is missing or damaged; names it.
    """
    uri = trial.place.child(wanted.name).uri
    if not wanted.manifest:
        raise SpecError(f"checkpoint {uri} has no readable {MANIFEST}.")
    files: Mapping[str, str] = wanted.manifest["files"]
    with contextlib.suppress(OSError, SpecError):
        if (target / MANIFEST).read_bytes() == wanted.content:
            check(target)
            return  # it is here
    temporary = target.with_name(f".{target.name}.fetched.writing")
    shutil.rmtree(temporary, ignore_errors=True)

    def fetch_file(name: str) -> None:
        try:
            trial.get_file(f"{wanted.name}/{name}", temporary / name)
        except FileNotFoundError as error:
            raise SpecError(f"checkpoint {uri} has no object {name}.") from error
        if checksum(temporary / name) != files[name]:
            raise SpecError(f"checkpoint {uri}: {name} is truncated or changed.")

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(fetch_file, _inside(files, uri)))
        (temporary / MANIFEST).write_bytes(wanted.content)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _inside(files: Mapping[str, str], uri: str) -> Iterator[str]:
    """The names of a manifest, which must not lead out of the checkpoint's folder."""
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise SpecError(f"checkpoint {uri}: {MANIFEST} names {name!r}.")
        yield name
