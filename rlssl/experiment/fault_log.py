"""What happened to a run and its processes: noted in its folder, printed by its summary.

This module imports neither torch nor Ray.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from rlssl.analysis.results import Trial
from rlssl.run_files import FAULTS_FILE
from rlssl.system.files import append

#: Kinds of notes, and their words in the summary.
KINDS = {
    "silent": "trials killed without a sign of life",
    "retry": "trials restarted",
    "drained": "trials moved from drained nodes",
    "reset": "trials that could not begin in a used process",
    "node": "nodes excluded",
    "disk": "disk failures",
    "checkpoint": "failures to write checkpoints",
    "upload": "failures to write to the object store",
    "rebuilt": "Ray Tune's state rebuilt",
    "resumed": "run resumed",
    "refused": "second resumes refused",
}

#: Counts of processes in results, and their words in the summary.
COUNTS = {
    "env_runner_restarts": "EnvRunners restarted",
    "worker_hangs": "A3C workers that hung",
    "worker_errors": "errors of A3C workers",
    "episodes_abandoned": "episodes abandoned",
    "episodes_dropped": "episodes dropped",
    "nonfinite_updates": "updates skipped",
}

# Notes that a full disk did not take: folder and line.
_unwritten: list[tuple[Path, bytes]] = []


class Note(NamedTuple):
    """One note: its kind, a key of `KINDS`, and what happened in words."""

    kind: str
    words: str


def note_fault(folder: Path, kind: str, words: str) -> None:
    """Notes in the folder of a run what happened. If the disk is full, the note waits.

    Args:
        folder: The run's folder.
        kind: A key of `KINDS`.
        words: What happened; the first line is kept.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> note_fault(folder, "resumed", "its process was killed")
        >>> list(noted_faults(folder))
        [Note(kind='resumed', words='its process was killed')]
    """
    first = next(iter(words.strip().splitlines()), "")
    line = json.dumps({"time": time.time(), "kind": kind, "words": first}) + "\n"
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


def noted_faults(folder: Path) -> Iterator[Note]:
    """The notes of a run, oldest first; damaged lines are skipped."""
    try:
        lines = (folder / FAULTS_FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            content = json.loads(line)
            yield Note(str(content["kind"]), str(content["words"]))
        except (KeyError, TypeError, ValueError):
            continue


def print_faults(folder: Path, trials: Sequence[Trial]) -> None:
    """Prints what happened to the processes and files of a run: a line for each kind."""
    lines = [*_counted(trials), *_noted(folder)]
    if lines:
        click.echo("Faults of the run:")
    for line in lines:
        click.echo(f"  {line}")


def _counted(trials: Sequence[Trial]) -> Iterator[str]:
    for name, words in COUNTS.items():
        total = sum(trial.num_faults(name) for trial in trials)
        if total:
            yield f"{words}: {total:,}"


def _noted(folder: Path) -> Iterator[str]:
    notes = list(noted_faults(folder))
    for kind, words in KINDS.items():
        of_kind = [note.words for note in notes if note.kind == kind]
        if of_kind:
            latest = "; the latest" if len(of_kind) > 1 else ""
            yield f"{words}: {len(of_kind):,}{latest}: {of_kind[-1]}"
