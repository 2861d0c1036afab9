"""Where a data set is stored: a folder."""

from pathlib import Path
from typing import Protocol

from rlssl.system import files


class DataStore(Protocol):
    """The files of one data set, by name."""

    def put(self, name: str, data: bytes) -> None:
        """Writes a file; readers see the whole old content or the whole new content."""

    def get(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""


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


def open_store(path: str | Path) -> DataStore:
    """The store of a data set.

    Args:
        path: A folder.
    """
    return DataFolder(Path(path).expanduser())
