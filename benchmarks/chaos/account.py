"""What the runs say at their end, against what was done to them."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.chaos.sweeps import Sweep
from rlssl import trust
from rlssl.analysis.faults import COUNTS
from rlssl.analysis.results import Trial, read_sweep
from rlssl.experiment.runs import load_policy
from rlssl.run_files import FAULTS_FILE

#: Notes that a full disk may cause, as often as something was to be written.
_OF_DISK = ("disk", "checkpoint")
#: Seconds after a full disk in which a run may note it.
_LATER_S = 60.0
#: Counted, and not compared: they follow from the restarts.
_FOLLOWS = ("episodes_abandoned", "episodes_dropped", "worker_hangs", "worker_errors")


def told(folder: Path) -> Counter[str]:
    """The faults that a run tells about: kinds of notes and names of counts, each with its number.

    A run without a result has none.
    """
    counts = Counter(kind for _, kind in _notes(folder))
    if any(folder.glob("*/result.json")):
        for trial in read_sweep(folder):
            counts.update({name: trial.num_faults(name) for name in COUNTS if name not in _FOLLOWS})
    return +counts


def differences(
    expected: Counter[str], folder: Path, full: Sequence[tuple[float, float]]
) -> Iterator[str]:
    """What a run tells that was not done, or does not tell although it was."""
    found = told(folder)
    for kind in sorted((expected | found).keys() - set(_OF_DISK)):
        if expected[kind] != found[kind]:
            yield f"{kind}: {expected[kind]} done, {found[kind]} told"
    if expected["disk"] and not found["disk"]:
        yield "disk: it was full, and nothing is told"
    for at, kind in _notes(folder):
        if kind in _OF_DISK and not any(start <= at <= end + _LATER_S for start, end in full):
            yield f"{kind}: told at {at:.0f}, when the disk was not full"


def problems(sweep: Sweep, twin: Sweep | None) -> Iterator[str]:
    """What is wrong with the results of a sweep that has ended."""
    if sweep.process is None or sweep.process.returncode != 0:
        yield f"exit code {None if sweep.process is None else sweep.process.returncode}"
        return
    # The runs record their folders in a state folder of their own.
    trust.accept(sweep.folder)
    undisturbed = {} if twin is None else {it.variant_label: it for it in read_sweep(twin.folder)}
    for trial in read_sweep(sweep.folder):
        for problem in _problems_of(trial, undisturbed.get(trial.variant_label)):
            yield f"{trial.variant_label}: {problem}"


def _problems_of(trial: Trial, twin: Trial | None) -> Iterator[str]:
    steps = [int(row["env_steps"]) for row in trial.results]
    end = int(trial.spec["stop"]["env_steps"])
    if trial.status != "finished" or steps[-1] < end or steps[-1] > 1.1 * end:
        yield f"{trial.status} after {steps[-1]:,} env steps instead of {end:,}"
    if any(later <= before for before, later in itertools.pairwise(steps)):
        yield "the env steps of its results do not increase"
    agent_steps = int(trial.results[-1]["agent_steps"])
    counted = int(trial.episodes.lengths.sum())
    if counted > agent_steps or agent_steps > steps[-1]:
        yield f"{counted:,} agent steps in episodes, {agent_steps:,} of {steps[-1]:,} env steps"
    if twin is not None and _episodes(trial) != _episodes(twin):
        yield "its episodes differ from those of an undisturbed run"
    load_policy(trial.path)


def _episodes(trial: Trial) -> str:
    return (trial.path / "episodes.csv").read_text()


def _notes(folder: Path) -> Iterator[tuple[float, str]]:
    """The time and kind of each note of a run."""
    path = folder / FAULTS_FILE
    for line in path.read_text().splitlines() if path.is_file() else []:
        note = json.loads(line)
        yield float(note["time"]), str(note["kind"])
