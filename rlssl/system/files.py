"""Writing files, checksums of files, and waiting until files are on the disk."""

import hashlib
import os
from pathlib import Path


def append(path: Path, data: bytes) -> None:
    """Adds bytes to the end of a file; creates the file if there is none."""
    with path.open("ab") as file:
        file.write(data)


def replace(path: Path, data: bytes) -> None:
    """Writes a file in one step: a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp".replace("tfevents", "events"))
    temporary.write_bytes(data)
    temporary.replace(path)


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """As `replace`, with text."""
    replace(path, text.encode())
