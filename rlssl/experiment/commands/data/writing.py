"""What commands that write data sets share: one writer at a time, and no half of a copy."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from rlssl.errors import ResourceError
from rlssl.experiment.lock import held
from rlssl.experiment.storage import LocalStorage, Storage
from rlssl.system.stores.objects import refused
from rlssl.system.stores.places import local_folder, parse_place


@contextlib.contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Holds the lock of a data set, as `rlssl.experiment.lock` does of a run.

    The lock of a process that was killed is free at once on its machine, else after a minute.

    Args:
        path: Folder or URI of the data set. A new folder is created; if it is empty at the end, it
            is removed.

    Raises:
        ResourceError: If another process writes the data set; names the process.
    """
    place = parse_place(path, "data set")
    if place is not None:
        from rlssl.experiment.remote.storage import ObjectStorage

        with contextlib.ExitStack() as stack:
            with refused(place, "data set"):
                stack.enter_context(_lock(Path(place.path), ObjectStorage(place.parent)))
            yield
        return
    folder = local_folder(path, "data set").absolute()
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder, LocalStorage(folder.parent)):
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it has files, or is gone
                folder.rmdir()


def _lock(folder: Path, storage: Storage) -> contextlib.AbstractContextManager[object]:
    return held(folder, storages=[storage], state="is being written")


@contextlib.contextmanager
def copying(path: str) -> Iterator[None]:
    """Holds the lock of a data set that is copied to ``path`` with ``keep_partial=False``.

    Raises:
        ResourceError: If another process writes it, or files cannot be read or written.
    """
    with only_writer(path), nothing_left():
        yield


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Says what to do after an error of the disk in a copy that removes what it has written.

    Raises:
        ResourceError: If files cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{error}. Nothing of the copy is left: mend the cause, and repeat the command."
        ) from error
