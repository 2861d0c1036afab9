"""Words about the faults of environments, for the terminal."""

from collections.abc import Iterable, Mapping, Sequence

import click

from rlssl.analysis.results import Trial
from rlssl.run_files import ENV_FAULTS_FOLDER

#: Counters of faults in a result, and their words.
ENV_FAULTS = {
    "env_crashes": "crashes",
    "env_timeouts": "timeouts",
    "bad_observations": "bad observations",
    "bad_rewards": "bad rewards",
}


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


def print_env_faults(trials: Sequence[Trial]) -> None:
    """Prints the faults of the environments of a run, and where the first tracebacks are."""
    counts = [_counts(trial) for trial in trials]
    words = fault_words(counts)
    if not words:
        return
    failing = [trial for trial, each in zip(trials, counts, strict=True) if any(each.values())]
    where = failing[0].path / ENV_FAULTS_FOLDER
    among = f" in {len(failing)} of {len(trials)} trials" if len(trials) > 1 else ""
    click.echo(f"{words}{among}. First tracebacks: {where}")


def _counts(trial: Trial) -> dict[str, int]:
    last = trial.results[-1] if trial.results else {}
    return {name: int(last.get(f"faults/{name}", 0)) for name in ENV_FAULTS}
