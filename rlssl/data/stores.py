"""Where a data set is stored: a folder, or a place on an object store."""

import contextlib
from pathlib import Path
from typing import Protocol

from rlssl.system import files
from rlssl.system.stores.objects import Objects, refused
from rlssl.system.stores.places import Place, local_folder, parse_place


class DataStore(Protocol):
    """The files of one data set, by name."""

    def put(self, name: str, data: bytes) -> None:
        """Writes a file; readers see the whole old content or the whole new content."""

    def get(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists; a folder that is empty then is deleted, too."""


class DataFolder:
    """A folder on a disk.

    Args:
        root: The folder; created by the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> None:
        """Writes a temporary file and renames it."""
        self.root.mkdir(parents=True, exist_ok=True)
        files.replace(self.root / name, data)

    def get(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists, and the folder if it is empty then."""
        (self.root / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are there, or the folder is gone
            self.root.rmdir()


class DataObjects:
    """Objects below a place on an object store.

    Args:
        place: The place.
    """

    def __init__(self, place: Place) -> None:
        self._place, self._objects = place, Objects(place)

    def put(self, name: str, data: bytes) -> None:
        """Writes an object in one step."""
        with refused(self._place, "data set"):
            self._objects.put(name, data)

    def get(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""
        with refused(self._place, "data set"):
            content = self._objects.get(name)
            if content is None:
                self._objects.require_bucket()
        return content

    def delete(self, name: str) -> None:
        """Deletes an object, if it exists."""
        with refused(self._place, "data set"):
            self._objects.delete(name)


def open_store(path: str | Path) -> DataStore:
    """The store of a data set.

    Args:
        path: A folder, ``s3://BUCKET/PATH``, ``gs://BUCKET/PATH`` or ``file:///PATH``; as the
            ``storage`` of a run.

    Raises:
        SpecError: If the URI cannot be used.

    Example:
        >>> open_store("s4://bucket/demos")
        Traceback (most recent call last):
        rlssl.errors.SpecError: data set 's4://bucket/demos': unknown scheme 's4'. Give \
s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH or a folder.
    """
    place = parse_place(str(path), "data set")
    if place is not None:
        return DataObjects(place)
    return DataFolder(local_folder(path, "data set"))
