"""What happened to a run and its processes: noted in its folder, printed by its summary.

This module imports neither torch nor Ray.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from rlssl.analysis.faults import env_fault_words, run_fault_words
from rlssl.analysis.results import Trial
from rlssl.run_files import FAULTS_FILE
from rlssl.system.files import append
from rlssl.system.json_output import readable_json

# Notes that a full disk did not take: folder and line.
_unwritten: list[tuple[Path, bytes]] = []


def note_fault(folder: Path, kind: str, words: str) -> None:
    """Notes in the folder of a run what happened. If the disk is full, the note waits.

    Args:
        folder: The run's folder.
        kind: A key of `rlssl.analysis.faults.KINDS`.
        words: What happened; the first line is kept.

    Example:
        >>> import tempfile
        >>> from rlssl.analysis.faults import noted_faults
        >>> folder = Path(tempfile.mkdtemp())
        >>> note_fault(folder, "resumed", "its process was killed")
        >>> list(noted_faults(folder))
        [Note(kind='resumed', words='its process was killed')]
    """
    first = next(iter(words.strip().splitlines()), "")
    line = readable_json({"time": time.time(), "kind": kind, "words": first}) + "\n"
    _unwritten.append((folder, line.encode()))
    write_waiting_notes()


def write_waiting_notes() -> None:
    """Tries again to write the notes that wait, oldest first."""
    while _unwritten:
        folder, line = _unwritten[0]
        try:
            append(folder / FAULTS_FILE, line)
        except OSError:  # the terminal has told about the disk, and the run goes on
            return
        _unwritten.pop(0)


def print_faults(folder: Path, trials: Sequence[Trial]) -> None:
    """Prints what happened to the processes and files of a run: a line for each kind."""
    lines = run_fault_words(folder, trials)
    if lines:
        click.echo("Faults of the run:")
    for line in lines:
        click.echo(f"  {line}")


def print_env_faults(trials: Sequence[Trial]) -> None:
    """Prints the faults of the environments of a run, and where the first tracebacks are."""
    if words := env_fault_words(trials):
        click.echo(words)
