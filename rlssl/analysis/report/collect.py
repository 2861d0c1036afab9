"""Reads runs for a report, and puts together what can be compared."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlssl.analysis.comparison.sides import score_of
from rlssl.analysis.confirmation import Chosen, read_choice
from rlssl.analysis.faults import (
    env_fault_words,
    run_fault_words,
    running_words,
    seeds_without_result,
    unreported_words,
)
from rlssl.analysis.lineage import Exploit, read_lineage
from rlssl.analysis.objective import Objective
from rlssl.analysis.protocol import Protocol, protocol_of
from rlssl.analysis.results import Run, Trial, read_run
from rlssl.analysis.table import (
    Estimate,
    VariantRow,
    counted_trials,
    group_by_variant,
    sweep_table,
)
from rlssl.clocks import WORDS


@dataclass(frozen=True)
class Variant:
    """A point of a run, over its seeds.

    Args:
        index: Its place in the report, from 0.
        label: Its label; with the name of the run if the report has several runs.
        run: The name of its run.
        row: Its row of the table that ``rlssl summary`` prints.
        trials: Its trials, one for each seed; none for a point that has not started.
    """

    index: int
    label: str
    run: str
    row: VariantRow
    trials: Sequence[Trial]

    @property
    def counted(self) -> list[Trial]:
        """The trials in the scores of the row."""
        return counted_trials(self.trials)

    @property
    def num_without_result(self) -> int:
        """The number of its seeds that failed before their first result, or have not begun."""
        if not self.trials:
            return self.row.num_expected or 0
        return len(seeds_without_result(self.trials))

    @property
    def objective(self) -> Objective | None:
        """The objective of its spec; None if the spec has none."""
        return Objective.of(self.trials[0].spec) if self.row.objective_words else None

    @property
    def protocol(self) -> Protocol:
        """How its score was measured."""
        return protocol_of(self.counted, self.objective)

    @property
    def estimate(self) -> Estimate:
        """The score by which variants are compared: the objective, or else the final return."""
        return self.row.objective or self.row.final_return

    @property
    def sign(self) -> float:
        """1 if higher scores are better, else -1."""
        return self.objective.sign if self.objective else 1.0

    @property
    def scores(self) -> list[float]:
        """The score of each counted seed that has one."""
        return list(self.score_of_seeds.values())

    @property
    def score_of_seeds(self) -> dict[int, float]:
        """Seed -> score, of the counted seeds that have one."""
        found = {trial.seed: score_of(trial, self.objective) for trial in self.counted}
        return {seed: score for seed, score in found.items() if score is not None}


@dataclass(frozen=True)
class Group:
    """Variants that were measured under one protocol, so that their scores can be compared.

    Args:
        task: The task in few words.
        variants: The variants with a score, the best one first; then those without.
        protocol: What is the same for all of them; with the fewest env steps and seeds.
        budget: where their specs stop, on their clock; None: not known.
    """

    task: str
    variants: Sequence[Variant]
    protocol: Protocol
    budget: int | None = None

    @property
    def scored(self) -> list[Variant]:
        """The variants that are compared, the best one first.

        They have a score over finished seeds. If no seed of the group has finished yet, all
        variants with a score are compared.
        """
        known = [one for one in self.variants if one.estimate.num_seeds]
        return [one for one in known if one.row.num_finished] or known


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Args:
        title: Names of the runs.
        runs: The runs that can be read.
        groups: All variants, in groups of one protocol.
        faults: Lines about faults, with the name of the run if there are several.
        problems: What could not be read, each with file and reason.
        lineages: Name of a run -> its exploits; runs without a population are left out.
        choices: Name of a run -> the search that it confirms, and its points; other runs are left
            out.
        running: Names of the runs that are still running.
    """

    title: str
    runs: Sequence[Run]
    groups: Sequence[Group]
    faults: Sequence[str] = ()
    problems: Sequence[str] = ()
    lineages: Mapping[str, Sequence[Exploit]] = field(default_factory=dict)
    choices: Mapping[str, tuple[Path, Sequence[Chosen]]] = field(default_factory=dict)
    running: Sequence[str] = ()

    @property
    def named_runs(self) -> dict[str, Run]:
        """Name of a run in this report -> the run."""
        return dict(zip(run_names(self.runs), self.runs, strict=True))

    @property
    def notices(self) -> list[str]:
        """One line for each run that is still running."""
        found = []
        for name in self.running:
            own = [one for one in self.variants if one.run == name]
            missing = sum(one.num_without_result for one in own)
            found.append(running_words(name, [one.row for one in own], missing))
        return found

    @property
    def variants(self) -> list[Variant]:
        """All variants, in the order of their index."""
        found = [one for group in self.groups for one in group.variants]
        return sorted(found, key=lambda one: one.index)


def read_report(folders: Sequence[str | Path], *, running: Collection[Path] = ()) -> Report:
    """Reads the folders of runs.

    A run that cannot be read becomes a problem of the report, if another run can be read.

    Args:
        folders: Folders of runs or trials; at least one.
        running: Those of them whose runs are still running.

    Raises:
        FileNotFoundError: If one of them is not a folder.
        ValueError: If none of them has a result; names the files.
    """
    runs, problems = [], []
    for folder in dict.fromkeys(Path(one).resolve() for one in folders):
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            problems.append(str(error))
    if not runs:
        raise ValueError("\n".join(problems) or "there is no run to report.")
    return report_of(runs, problems, running=running)


def report_of(
    runs: Sequence[Run], problems: Sequence[str] = (), *, running: Collection[Path] = ()
) -> Report:
    """Puts runs together in a report.

    Args:
        runs: From `rlssl.analysis.results.read_run`; at least one.
        problems: What could not be read of other runs.
        running: Folders of the runs that are still running.
    """
    names = run_names(runs)
    variants = _variants(runs, names)
    several = len(runs) > 1
    faults: list[str] = []
    found = list(problems)
    lineages: dict[str, Any] = {}
    choices: dict[str, Any] = {}
    for run, name in zip(runs, names, strict=True):
        before = f"{name}: " if several else ""
        lines = [env_fault_words(run.trials), unreported_words(run.path)]
        lines += run_fault_words(run.path, run.trials)
        faults += [before + line for line in lines if line]
        found += [before + problem for problem in run.problems]
        lineages |= _content(name, run, read_lineage, found)
        choices |= _content(name, run, read_choice, found)
    title = ", ".join(names)
    now = {folder.resolve() for folder in running}
    alive = [name for run, name in zip(runs, names, strict=True) if run.path in now]
    return Report(title, runs, _groups(variants), faults, found, lineages, choices, alive)


def _content(
    name: str, run: Run, read: Callable[[Path], Any], problems: list[str]
) -> dict[str, Any]:
    """What a file of a run says, by the run's name; nothing if it has no such file."""
    try:
        content = read(run.path)
    except ValueError as error:
        problems.append(str(error))
        return {}
    return {name: content} if content else {}


def run_names(runs: Sequence[Run]) -> list[str]:
    """The names of the folders of runs; with the folder above where two are equal."""
    names = [run.path.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{run.path.parent.name}/{name}"
        for run, name in zip(runs, names, strict=True)
    ]


def _variants(runs: Sequence[Run], names: Sequence[str]) -> list[Variant]:
    variants: list[Variant] = []
    for run, name in zip(runs, names, strict=True):
        groups = group_by_variant(run.trials)
        for row in sweep_table(run.trials, run.points):
            label = f"{row.variant} ({name})" if len(runs) > 1 else row.variant
            trials = groups.get(row.variant, [])
            variants.append(Variant(len(variants), label, name, row, trials))
    return variants


def _groups(variants: Sequence[Variant]) -> list[Group]:
    """Variants of one protocol. A point without a trial has the first protocol of its run."""
    found: dict[tuple[Protocol, int | None], list[Variant]] = {}
    first_of_run: dict[str, tuple[Protocol, int | None]] = {}
    for one in variants:
        if one.trials:
            key = (one.protocol, _budget(one.trials[0]))
            first_of_run.setdefault(one.run, key)
        else:
            key = first_of_run[one.run]
        found.setdefault(key, []).append(one)
    tasks = _tasks(list(found))
    return [
        Group(task, sorted(group, key=_rank), _of_all(protocol, group), budget)
        for task, ((protocol, budget), group) in zip(tasks, found.items(), strict=True)
    ]


def _of_all(protocol: Protocol, group: Sequence[Variant]) -> Protocol:
    """The protocol of the group, with the fewest env steps and seeds of its scores."""
    scored = Group("", sorted(group, key=_rank), protocol).scored
    own = [one.protocol for one in scored]
    if not own:
        return protocol
    steps = [one.env_steps for one in own if one.env_steps is not None]
    seeds = [one.num_seeds for one in own if one.num_seeds is not None]
    return dataclasses.replace(
        protocol, env_steps=min(steps, default=None), num_seeds=min(seeds, default=None)
    )


def _budget(trial: Trial) -> int | None:
    return (trial.spec.get("stop") or {}).get(trial.clock)


def _rank(one: Variant) -> tuple[bool, bool, float, int]:
    """Variants with finished seeds come first, then those with a score, then all others."""
    known = one.estimate.num_seeds > 0
    mean = one.sign * one.estimate.mean if known else 0.0
    return (not one.row.num_finished, not known, -mean, one.index)


def _tasks(keys: Sequence[tuple[Protocol, int | None]]) -> list[str]:
    """Names of the groups: the environment, and what else tells the groups apart."""
    names = []
    for protocol, budget in keys:
        twins = [other for other in keys if other[0].task == protocol.task]
        options = ", ".join(f"{name}={value}" for name, value in protocol.task_options)
        notes = []
        if any(other.task_options != protocol.task_options for other, _ in twins):
            notes.append(options or "no options")
        if any(other != budget for _, other in twins):
            unit = WORDS[protocol.clock]
            notes.append(f"{unit} not stated" if budget is None else f"{budget:,} {unit}")
        if any(other.label != protocol.label for other, _ in twins) and not notes:
            notes.append(protocol.metric)
        name = protocol.task or "environment not stated"
        names.append(f"{name} ({', '.join(notes)})" if notes else name)
    return names
