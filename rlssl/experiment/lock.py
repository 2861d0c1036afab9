"""A lock for each run: at most one process trains it, resumes it, or writes its results.

``lock.json`` in the run's folder names the owner. The owner changes the file's time every 10 s. A
lock is stale after 60 s without a change, or at once if its process is dead on this machine. The
next process takes a stale lock over: it creates ``lock.json.N`` with the next number N, which only
one process can. An owner that finds such a file of another process has lost the lock, and stops.

This module imports neither torch nor Ray, so that ``rlssl runs`` is fast.
"""

import contextlib
import dataclasses
import getpass
import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from rlssl.errors import ExitCode, ResourceError
from rlssl.experiment.storage import LocalStorage, Storage
from rlssl.run_files import LOCK_FILE
from rlssl.system.stores.places import place_of_folder

logger = logging.getLogger(__name__)

#: Seconds between two signs of life of an owner, and after which a silent owner loses its lock.
HEARTBEAT_S, STALE_S = 10.0, 60.0


@dataclasses.dataclass(frozen=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        host: Name of its machine.
        pid: Its process id there.
        process_started: Start of the process, in clock ticks since the machine started. It tells
            the process from a later one with the same id.
        user: Name of its user.
        machine: Identifies the start of the machine, and the container.
        token: Differs for every owner.
        number: How many owners the lock has had; each one takes it over from the one before.
    """

    host: str
    pid: int
    process_started: str
    user: str
    machine: str
    token: str
    number: int = 1

    @classmethod
    def this_process(cls, number: int = 1) -> "Owner":
        """Describes the running process.

        Example:
            >>> Owner.this_process().pid == os.getpid()
            True
        """
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started=process_start(os.getpid()) or "",
            user=_user(),
            machine=_machine(),
            token=uuid.uuid4().hex,
            number=number,
        )

    @classmethod
    def parse(cls, content: bytes) -> "Owner | None":
        """Reads a lock file; None if it is damaged."""
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError):
            return None

    def encode(self) -> bytes:
        """The content of a lock file."""
        return json.dumps(dataclasses.asdict(self), indent=2).encode()

    def is_dead(self) -> bool:
        """Whether the process is known to have ended; False for processes of other machines."""
        return self.machine == _machine() and process_start(self.pid) != self.process_started

    def __str__(self) -> str:
        """Names the process for messages."""
        return f"{self.user} on {self.host} (process {self.pid})"


@dataclasses.dataclass(frozen=True)
class Holder:
    """What a lock file says.

    Attributes:
        owner: None if the file is damaged.
        age_s: Seconds since the owner's last sign of life.
    """

    owner: Owner | None
    age_s: float

    @property
    def is_alive(self) -> bool:
        """Whether the lock may not be taken over."""
        return self.age_s < STALE_S and not (self.owner is not None and self.owner.is_dead())

    def __str__(self) -> str:
        """Names the owner and its last sign of life."""
        return f"{self.owner or 'an unknown process'}; last sign of life {self.age_s:.0f} s ago"


def holder(storage: Storage, run: str) -> Holder | None:
    """The latest owner of a run's lock; None if the run has none.

    Example:
        >>> import tempfile
        >>> holder(LocalStorage(Path(tempfile.mkdtemp())), "ppo-CartPole-v1") is None
        True
    """
    latest, path = _latest(storage, run)
    return None if latest is None else Holder(latest or None, storage.age_s(path))


def running(folder: Path) -> bool:
    """Whether a process runs the run in ``folder`` now."""
    return _living_holder(folder) is not None


def refuse_if_running(folder: Path) -> None:
    """Raises if a process runs the run in ``folder`` now; changes nothing there.

    Raises:
        ResourceError: Naming the process.
    """
    found = _living_holder(folder)
    if found is not None:
        raise _is_taken(folder.name, found)


def storages_of(folder: Path) -> list[Storage]:
    """Where a run has locks: in its folder, and on the object store of which that is a copy.

    The locks on an object store protect a run only from processes that begin some seconds apart;
    see `rlssl.experiment.remote.storage.ObjectStorage`.
    """
    place = place_of_folder(folder)
    if place is None:
        return [LocalStorage(folder.parent)]
    # pyarrow takes a moment to import.
    from rlssl.experiment.remote.storage import ObjectStorage

    return [LocalStorage(folder.parent), ObjectStorage(place.parent)]


def _living_holder(folder: Path) -> Holder | None:
    found = (holder(storage, folder.name) for storage in storages_of(folder))
    return next((one for one in found if one is not None and one.is_alive), None)


class Lock:
    """The lock of a run, held by this process until ``release``.

    Args:
        storage: Where the run is.
        run: Name of the run's folder.
        owner: This process.
        on_loss: Called in a thread, with the new owner, if another process takes the lock over.
    """

    def __init__(
        self, storage: Storage, run: str, owner: Owner, on_loss: Callable[[Owner], None]
    ) -> None:
        self.owner = owner
        self._storage = storage
        self._path, self._claim = _path(run), _path(run, owner.number)
        self._next_claim = _path(run, owner.number + 1)
        self._on_loss = on_loss
        self._end = threading.Event()
        self._has_warned = False
        self._thread = threading.Thread(target=self._stay_alive, name="lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Gives the lock back; deletes its files."""
        self._end.set()
        self._thread.join(timeout=1.0)
        if self.successor() is None:
            # In this order: a lock with a lower number may be taken over by one who read it before.
            self._storage.delete(self._claim)
            self._storage.delete(self._path)

    def successor(self) -> Owner | None:
        """The process that has taken the lock over; None if this process still holds it."""
        for path in (self._next_claim, self._path):
            content = self._storage.read(path)
            found = None if content is None else Owner.parse(content)
            is_other = found is not None and found.token != self.owner.token
            # An object store may let two processes have the same number; the last one stays.
            if found is not None and is_other and found.number >= self.owner.number:
                return found
        return None

    def _stay_alive(self) -> None:
        while not self._end.wait(HEARTBEAT_S):
            try:
                successor = self.successor()
                if successor is not None:
                    self._on_loss(successor)
                    return
                self._show_life()
            except OSError as error:
                if not self._has_warned:
                    self._has_warned = True
                    logger.warning("The lock %s cannot be renewed: %s", self._path, error)

    def _show_life(self) -> None:
        try:
            self._storage.touch(self._path)
        except FileNotFoundError:  # somebody deleted the file
            self._storage.create(self._path, self.owner.encode())


def acquire(
    storage: Storage, run: str, on_loss: Callable[[Owner], None], state: str = "is running"
) -> Lock:
    """Takes the lock of a run, or of another folder that one process writes.

    Args:
        storage: Where the run is.
        run: Name of the run's folder, which exists.
        on_loss: Called in a thread if another process takes the lock over later.
        state: What it is while it has an owner, for messages.

    Raises:
        ResourceError: If the lock has an owner that lives; names the owner.
    """
    found = holder(storage, run)
    if found is None:
        owner = Owner.this_process()
        if storage.create(_path(run), owner.encode()):
            return Lock(storage, run, owner, on_loss)
        found = holder(storage, run)
    if found is not None and not found.is_alive:
        number = 1 + (found.owner.number if found.owner else 0)
        owner = Owner.this_process(number)
        if _take_over(storage, run, owner):
            return Lock(storage, run, owner, on_loss)
        found = holder(storage, run)
    raise _is_taken(run, found, state)


def _is_taken(run: str, found: Holder | None, state: str = "is running") -> ResourceError:
    return ResourceError(
        f"{run} {state}: {found or 'another process has just started'}. Wait until that process "
        "has ended, or end it."
    )


def _take_over(storage: Storage, run: str, owner: Owner) -> bool:
    if not storage.create(_path(run, owner.number), owner.encode()):
        return False
    # The stale lock that this process has read may be history by now.
    content = storage.read(_path(run))
    current = None if content is None else Owner.parse(content)
    if content is None or (current is not None and current.number >= owner.number):
        storage.delete(_path(run, owner.number))
        return False
    storage.replace(_path(run), owner.encode())
    storage.delete(_path(run, owner.number - 1))
    return True


@contextlib.contextmanager
def held(
    folder: Path,
    on_loss: Callable[[Owner], None] | None = None,
    *,
    storages: Sequence[Storage] = (),
    state: str = "is running",
) -> Iterator[Lock]:
    """Holds the lock of the run in ``folder``, and the one on its object store.

    Args:
        folder: The run's folder.
        on_loss: Called if another process takes the lock over; None: this process ends at once.
        storages: Where the locks are; none: as for a run, `storages_of`.
        state: What the folder is while it has an owner, for messages.

    Raises:
        ResourceError: If another process holds the lock.
    """
    stop = on_loss or (lambda successor: _end_at_once(folder, successor))
    with contextlib.ExitStack() as stack:
        locks = []
        for storage in storages or storages_of(folder):
            locks.append(acquire(storage, folder.name, stop, state))
            stack.callback(_release, locks[-1], folder)
        yield locks[0]


def _release(lock: Lock, folder: Path) -> None:
    try:
        lock.release()
    except OSError as error:
        logger.warning("The lock of %s cannot be released: %s", folder, error)


def process_start(pid: int) -> str | None:
    """Start of a process in clock ticks since the machine started.

    Returns:
        None if there is no such process; "" if this system does not tell.

    Example:
        >>> process_start(os.getpid()) is None
        False
    """
    if not Path("/proc/self/stat").exists():
        return "" if _exists(pid) else None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end_at_once(folder: Path, successor: Owner) -> None:
    """Ends this process without writing anything more: the folder belongs to another process."""
    click.echo(
        f"error: {folder} was taken over by {successor}, because this process gave no sign of life "
        f"for {STALE_S:.0f} s, or both began at the same moment. It stops.",
        err=True,
    )
    os._exit(ExitCode.NO_RESOURCES)


def _latest(storage: Storage, run: str) -> tuple[Any, str]:
    """The owner with the highest number, or "" if its file is damaged; and the path of its file."""
    path = _path(run)
    content = storage.read(path)
    if content is None:
        return None, path
    owner = Owner.parse(content)
    # A process may have died between its claim and its entry in lock.json.
    while True:
        claim = _path(run, 1 + (owner.number if owner else 0))
        content = storage.read(claim)
        claimant = None if content is None else Owner.parse(content)
        if claimant is None:
            return owner or "", path
        owner, path = claimant, claim


def _path(run: str, number: int | None = None) -> str:
    return f"{run}/{LOCK_FILE}" if number is None else f"{run}/{LOCK_FILE}.{number}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()
