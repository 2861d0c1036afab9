"""Writing files, checksums of files, and waiting until files are on the disk."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path


def append(path: Path, data: bytes) -> None:
    """Adds bytes to the end of a file; creates the file if there is none.

    Raises:
        OSError: If it fails, as on a full disk; then the file is as it was.
    """
    flags, existed = os.O_WRONLY | os.O_APPEND, True
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor, existed = os.open(path, flags | os.O_CREAT, 0o666), False
    try:
        size, rest = os.fstat(descriptor).st_size, memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        _undo(path, size if existed else None)
        raise
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Writes a file in one step: a kill or a full disk leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp".replace("tfevents", "events"))
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def cannot_write(path: Path, error: OSError) -> str:
    """Why a file cannot be written, in words.

    Args:
        path: The file; not a temporary file beside it.
        error: What was raised.

    Example:
        >>> cannot_write(Path("a/report.html"), OSError(30, "Read-only file system"))
        'cannot write a/report.html: read-only file system'
    """
    reason = error.strerror or str(error)
    return f"cannot write {path}: {reason[:1].lower()}{reason[1:]}"


def _undo(path: Path, size: int | None) -> None:
    """Gives a file its earlier size; None: it did not exist."""
    if size is None:
        path.unlink(missing_ok=True)
    else:
        os.truncate(path, size)


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


def free_space(path: Path) -> str:
    """The free space on the disk of a file or folder, in words; also if the path does not exist."""
    existing = next((each for each in (path, *path.parents) if each.exists()), path)
    try:
        return f"{shutil.disk_usage(existing).free / 1e6:,.0f} MB"
    except OSError:
        return "an unknown number of MB"
