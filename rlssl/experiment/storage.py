"""What names and locks of runs need from the place where results are stored.

`LocalStorage` is a folder. An object store has the same operations: put if absent, put, get, the
time of the last change, delete. This module imports only the standard library.
"""

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """Folders and small files by their path below the storage: ``ppo-CartPole-v1/lock.json``."""

    def claim(self, name: str) -> bool:
        """Creates a folder; False if it exists. Exactly one of several callers gets True."""

    def create(self, path: str, content: bytes) -> bool:
        """Writes a new file; False if it exists. Exactly one of several callers gets True."""

    def replace(self, path: str, content: bytes) -> None:
        """Writes a file; readers see the whole old content or the whole new content."""

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none."""

    def touch(self, path: str) -> None:
        """Sets the time of the last change of a file to now; needs no free space."""

    def age_s(self, path: str) -> float:
        """Seconds since the last change of a file, by the storage's clock; inf without a file."""

    def delete(self, path: str) -> None:
        """Deletes a file, if it exists."""


class LocalStorage:
    """A folder on this machine, or on a file system that several machines share.

    Args:
        root: The folder.

    Example:
        >>> import tempfile
        >>> storage = LocalStorage(Path(tempfile.mkdtemp()))
        >>> storage.claim("ppo"), storage.claim("ppo")
        (True, False)
        >>> storage.create("ppo/lock.json", b"1"), storage.create("ppo/lock.json", b"2")
        (True, False)
        >>> storage.read("ppo/lock.json")
        b'1'
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def claim(self, name: str) -> bool:
        """Creates a folder; False if it exists."""
        folder = self.root / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            return False
        return True

    def create(self, path: str, content: bytes) -> bool:
        """Writes a new file; False if it exists."""
        target = self.root / path
        try:
            descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return True

    def replace(self, path: str, content: bytes) -> None:
        """Writes a file, in one step for its readers."""
        target = self.root / path
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.writing")
        try:
            temporary.write_bytes(content)
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def touch(self, path: str) -> None:
        """Sets the time of the last change of a file to now."""
        os.utime(self.root / path)

    def age_s(self, path: str) -> float:
        """Seconds since the last change of a file; inf without a file.

        The clocks of two machines may differ. So "now" is the time that the file system gives to a
        new file; it is this machine's time only if rlssl cannot write there.
        """
        try:
            # Opening makes NFS ask its server instead of a cache.
            with (self.root / path).open("rb") as file:
                changed = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return float("inf")
        return max(0.0, self._now(self.root / path) - changed)

    def delete(self, path: str) -> None:
        """Deletes a file, if it exists."""
        (self.root / path).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Deletes the folder of a run."""
        shutil.rmtree(self.root / name, ignore_errors=True)

    def _now(self, beside: Path) -> float:
        probe = beside.with_name(f".{beside.name}.{uuid.uuid4().hex[:8]}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # a full disk, or the folder of another user
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)


def claim_name(storage: Storage, name: str) -> str:
    """Claims a folder for a new run; returns its name: ``name``, or with the first free number.

    Several processes may call this at the same time; each gets a folder of its own.

    Example:
        >>> import tempfile
        >>> storage = LocalStorage(Path(tempfile.mkdtemp()))
        >>> [claim_name(storage, "ppo-CartPole-v1") for _ in range(3)]
        ['ppo-CartPole-v1', 'ppo-CartPole-v1-2', 'ppo-CartPole-v1-3']
    """
    claimed, number = name, 1
    while not storage.claim(claimed):
        number += 1
        claimed = f"{name}-{number}"
    return claimed
