"""Whose run is it: pickles, and the modules that a run names, are code of whoever wrote them.

A folder is the user's own where rlssl started the run, or wrote the export, at this very path under
this account: paths are recorded in ``~/.local/state/rlssl/runs``, outside the folder, so that
nothing in a folder can make itself trusted. Everything else is of foreign origin: downloaded,
copied, moved, or written by another user. It is read as data; what would execute needs ``--trust``.
"""

import logging
import os
from pathlib import Path

from rlssl.errors import SpecError

logger = logging.getLogger(__name__)

#: Folders that the user of this process vouches for.
_accepted: set[str] = set()


def record_file() -> Path:
    """The list of this account's own folders, a path a line."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rlssl" / "runs"


def record(folder: Path) -> None:
    """Notes that rlssl writes ``folder`` for this user."""
    path = record_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{folder.resolve()}\n")
    except OSError as error:
        logger.warning("%s cannot be noted as your own; resume needs --trust: %s", folder, error)


def accept(folder: Path) -> None:
    """Trusts ``folder`` for as long as this process lives: ``--trust``."""
    _accepted.add(str(folder.resolve()))


def is_trusted(folder: Path) -> bool:
    """Whether ``folder``, or one that it lies in, is the user's own, or accepted."""
    folder = folder.resolve()
    above = {str(folder), *map(str, folder.parents)}
    return not _accepted.isdisjoint(above) or not _recorded(folder).isdisjoint(above)


def require(folder: Path, why: str) -> None:
    """Refuses what would execute code of foreign origin.

    Args:
        folder: The run, trial or policy.
        why: What would execute: "its checkpoints are pickles".

    Raises:
        SpecError: If the folder is not trusted.
    """
    if not is_trusted(folder):
        raise SpecError(
            f"{folder} was not made here by you, and {why}: loading it can execute anything. "
            "If you trust whoever made it, repeat with --trust."
        )


def _recorded(folder: Path) -> set[str]:
    """The paths of the record, if it and ``folder`` belong to this user."""
    try:
        path = record_file()
        if {folder.stat().st_uid, path.stat().st_uid} != {os.geteuid()}:
            return set()
        return set(path.read_text(encoding="utf-8").splitlines())
    except OSError:
        return set()
