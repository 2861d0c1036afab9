"""What happened to a run: faults of its environments and processes, from its files."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from rlssl.analysis.results import Trial
from rlssl.analysis.table import VariantRow
from rlssl.run_files import ENV_FAULTS_FOLDER, ERROR_FILE, FAULTS_FILE, RESULTS_FILE

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

#: Counters of faults in a result, and their words.
ENV_FAULTS = {
    "env_crashes": "crashes",
    "env_timeouts": "timeouts",
    "bad_observations": "bad observations",
    "bad_rewards": "bad rewards",
}


class Note(NamedTuple):
    """One note: its kind, a key of `KINDS`, and what happened in words."""

    kind: str
    words: str


class _Counts(Protocol):
    """A trial that knows how often a fault happened."""

    def num_faults(self, name: str) -> int: ...


def env_fault_words(trials: Sequence[Trial]) -> str:
    """The faults of the environments of a run, and where the first tracebacks are; "" if none."""
    counts = [_env_counts(trial) for trial in trials]
    words = fault_words(counts)
    if not words:
        return ""
    failing = [trial for trial, each in zip(trials, counts, strict=True) if any(each.values())]
    where = failing[0].path / ENV_FAULTS_FOLDER
    among = f" in {len(failing)} of {len(trials)} trials" if len(trials) > 1 else ""
    return f"{words}{among}. First tracebacks: {where}"


def run_fault_words(folder: Path, trials: Sequence[_Counts]) -> list[str]:
    """What happened to the processes and files of a run, a line for each kind.

    Args:
        folder: The run's folder.
        trials: Its trials.
    """
    return [*_counted(trials), *_noted(folder)]


def seeds_without_result(trials: Sequence[Trial]) -> list[int]:
    """The seeds that a sweep gives to a variant, and that have no result: failed, or not begun.

    Args:
        trials: The trials of one variant.

    Example:
        >>> import numpy as np
        >>> from rlssl.analysis.results import Episodes
        >>> none = Episodes(*np.empty((4, 0)))
        >>> seeds_without_result([Trial(Path("a"), {}, {}, 1, "", [], none, sweep_seeds=(0, 1, 2))])
        [0, 2]
    """
    expected = {seed for trial in trials for seed in trial.sweep_seeds}
    return sorted(expected - {trial.seed for trial in trials})


def unreported_words(folder: Path) -> str:
    """The trials of a run that failed before their first result; "" if there are none.

    Args:
        folder: The run's folder.

    Example:
        >>> unreported_words(Path("/nowhere"))
        ''
    """
    failed = [path for path in sorted(folder.glob(f"*/{ERROR_FILE}")) if not _has_result(path)]
    if not failed:
        return ""
    first = "" if len(failed) == 1 else "; the first"
    return f"trials that failed before their first result: {len(failed):,}{first}: {failed[0]}"


def _has_result(path: Path) -> bool:
    results = path.with_name(RESULTS_FILE)
    return results.is_file() and results.stat().st_size > 0


def running_words(name: str, rows: Sequence[VariantRow], num_without_result: int) -> str:
    """What is said about the scores of a run that is still running.

    Args:
        name: Of the run.
        rows: The rows of its table.
        num_without_result: Number of its trials that have no result.

    Example:
        >>> from rlssl.analysis.table import Estimate
        >>> score = Estimate(1.0, None, 2)
        >>> row = VariantRow("icm", 2, score, score, 900, num_finished=1, num_expected=5)
        >>> running_words("lab", [row], 3)
        'lab is still running: 1 of 5 trials finished, 3 without a result. All scores may change.'
    """
    finished, expected = 0, 0
    for row in rows:
        finished += row.num_seeds if row.num_finished is None else row.num_finished
        expected += row.num_seeds if row.num_expected is None else row.num_expected
    return (
        f"{name} is still running: {finished} of {expected} trials finished, {num_without_result} "
        "without a result. All scores may change."
    )


def fault_words(counts: Iterable[Mapping[str, int]]) -> str:
    """The faults of the environments of all trials, in words; "" if there are none.

    Args:
        counts: The counters of each trial.

    Example:
        >>> fault_words([{"env_crashes": 54, "bad_rewards": 1}, {"env_crashes": 2}])
        'environments: 56 crashes, 1 bad rewards'
        >>> fault_words([{"env_crashes": 0}])
        ''
    """
    counts = list(counts)
    totals = {
        words: sum(int(trial.get(name, 0)) for trial in counts)
        for name, words in ENV_FAULTS.items()
    }
    parts = [f"{total:,} {words}" for words, total in totals.items() if total]
    return f"environments: {', '.join(parts)}" if parts else ""


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


def _counted(trials: Sequence[_Counts]) -> Iterator[str]:
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


def _env_counts(trial: Trial) -> dict[str, int]:
    return {name: trial.num_faults(name) for name in ENV_FAULTS}
