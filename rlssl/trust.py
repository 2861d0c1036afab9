"""Decides which folders of runs are trusted: their pickles and plug-ins execute code.

A folder is trusted if rlssl started the run, or wrote the export, at this path and under this
account. Paths are recorded in ``~/.local/state/rlssl/runs``, outside the folder, so a folder cannot
make itself trusted. All other folders (downloaded, copied, moved, or written by another user) are
read as data only; executing their code needs ``--trust``.
"""

import logging
import os
from pathlib import Path

from rlssl.errors import SpecError

logger = logging.getLogger(__name__)

#: Folders that the user has accepted in this process.
_accepted: set[str] = set()


def record_file() -> Path:
    """The file that lists this account's folders, one path per line."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rlssl" / "runs"


def record(folder: Path) -> None:
    """Records that rlssl writes ``folder`` for this user."""
    path = record_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{folder.resolve()}\n")
    except OSError as error:
        logger.warning("%s cannot be recorded as yours; resume needs --trust: %s", folder, error)


def accept(folder: Path) -> None:
    """Trusts ``folder`` until this process ends; for ``--trust``."""
    _accepted.add(str(folder.resolve()))


def is_trusted(folder: Path) -> bool:
    """Whether ``folder`` or a folder above it is recorded or accepted."""
    folder = folder.resolve()
    above = {str(folder), *map(str, folder.parents)}
    return not _accepted.isdisjoint(above) or not _recorded(folder).isdisjoint(above)


def require(folder: Path, why: str) -> None:
    """Raises unless ``folder`` is trusted.

    Args:
        folder: The run, trial or policy.
        why: Why loading would execute code: "its checkpoints are pickles".

    Raises:
        SpecError: If the folder is not trusted.
    """
    if not is_trusted(folder):
        raise SpecError(
            f"{folder} was not made here by you, and {why}: loading it can execute any code. "
            "If you trust its author, repeat with --trust."
        )


def _recorded(folder: Path) -> set[str]:
    """The recorded paths, if the record and ``folder`` both belong to this user."""
    try:
        path = record_file()
        if {folder.stat().st_uid, path.stat().st_uid} != {os.geteuid()}:
            return set()
        return set(path.read_text(encoding="utf-8").splitlines())
    except OSError:
        return set()
