"""Continues a run whose state files of Tune are damaged or lost, from the files of rlssl.

These are ``sweep.yaml``, ``points.json``, and each trial's ``trial.json`` and checkpoints.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from ray import cloudpickle

from rlssl.analysis.points import point_key, read_points
from rlssl.clocks import steps_of
from rlssl.experiment.fault_log import note_fault
from rlssl.experiment.run_folders import read_description
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_checks import has_population, objective_of
from rlssl.experiment.spec.search_space import adapts, draw_points, num_points, search_seed
from rlssl.experiment.tuning.schedulers.building import scheduler_of
from rlssl.experiment.tuning.search import saved_points
from rlssl.experiment.tuning.searchers import Point, trial_key, write_points
from rlssl.experiment.tuning.searchers.journal import Journal
from rlssl.experiment.tuning.trial_config import TRAINS_ON_KEY, has_reached
from rlssl.ray_internals.tuning import read_experiment_state
from rlssl.run_files import (
    POINTS_FILE,
    RESULTS_FILE,
    TRIAL_FILE,
)

#: Tune's files in a run's folder. Of each kind, it reads the last one by name.
_TUNER, _TRIALS = "tuner.pkl", "experiment_state-*.json"
_SEARCH = ("searcher-state-*.pkl", "search_gen_state-*.json")
_EARLIER_SEARCH = ("basic-variant-state-*.json",)
_OTHERS = ("callback-states-*.pkl", "trainable.pkl")


@dataclass(frozen=True)
class KnownTrial:
    """A trial that has a folder."""

    folder: Path
    point: Mapping[str, Any]
    seed: int
    # Its last readable result; empty without any.
    result: Mapping[str, Any]

    @property
    def has_ended(self) -> bool:
        """Whether a stop criterion or the scheduler ended it."""
        return bool(self.result.get("done"))


def known_trials(folder: Path) -> list[KnownTrial]:
    """The trials of a run that have folders; a folder without a readable description is named."""
    found = []
    for path in sorted(folder.glob(f"*/{TRIAL_FILE}")):
        try:
            read = json.loads(path.read_bytes())
            point, seed = dict(read["point"]), int(read["seed"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            click.echo(f"{path} is damaged ({error}); a new trial replaces this one.", err=True)
            continue
        found.append(KnownTrial(path.parent, point, seed, _last_result(path.parent)))
    return found


def _last_result(folder: Path) -> dict[str, Any]:
    """The last readable result of a trial; empty without any."""
    try:
        lines = (folder / RESULTS_FILE).read_bytes().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return dict(json.loads(line))
        except (TypeError, ValueError):
            continue
    return {}


def damaged_files(folder: Path) -> list[str]:
    """Names, or name patterns, of Tune's files in a run's folder that it needs and cannot read.

    They are pickles: call it only for a trusted run.
    """
    search = _SEARCH if (folder / POINTS_FILE).is_file() else _EARLIER_SEARCH
    damaged = [pattern for pattern in (_TUNER, _TRIALS, *search) if not any(folder.glob(pattern))]
    damaged += [path.name for path in _newest_files(folder) if not _is_readable(path)]
    return damaged


def _newest_files(folder: Path) -> Iterator[Path]:
    for pattern in (_TUNER, _TRIALS, *_SEARCH, *_EARLIER_SEARCH, *_OTHERS):
        yield from sorted(folder.glob(pattern))[-1:]


def _is_readable(path: Path) -> bool:
    read: Callable[[bytes], Any] = cloudpickle.loads
    if path.match(_TRIALS):
        read = read_experiment_state
    try:
        read(path.read_bytes())
    except Exception:  # damaged pickles raise errors of any kind
        return False
    return True


@dataclass(frozen=True)
class Trials:
    """The trials that Tune runs."""

    points: Sequence[Point]
    # Scores of the trials that do not run again, by `trial_key`; None without a score.
    ended: Mapping[str, float | None] = field(default_factory=dict)
    # Key of a trial -> name of the folder in which it continues.
    folders: Mapping[str, str] = field(default_factory=dict)
    # Env steps at which the run ended, if it was told to train further.
    trains_on_from: int | None = None


def rebuilt(spec: Spec, folder: Path) -> Trials:
    """Reads what is left of a run.

    Args:
        spec: From the run's ``sweep.yaml``.
        folder: The run's folder.
    """
    known = {trial_key(trial.point, trial.seed): trial for trial in known_trials(folder)}
    objective = objective_of(spec)
    trains_on = trains_on_of(spec, folder)
    ended: dict[str, float | None] = {
        key: objective.score(trial.result)
        for key, trial in known.items()
        if trial.has_ended and not trains_on(trial)
    }
    folders = {key: trial.folder.name for key, trial in known.items()}
    if adapts(spec):
        adopt_lost_points(spec, folder, known.values())
        return Trials([], ended, folders, _trains_on_from(folder))
    is_listed = (folder / POINTS_FILE).is_file()
    points: list[Point] = saved_points(spec, folder) if is_listed else [*draw_points(spec)]
    keys = {point_key(point) for point in points}
    of_folders = {point_key(trial.point): trial.point for trial in known.values()}
    is_of_earlier_version = not of_folders.keys() <= keys
    if is_of_earlier_version:
        points = list(of_folders.values())
    if not is_listed:
        seed = search_seed(spec)
        write_points(folder, points, search_seed=seed, are_members=has_population(spec))
    every = {trial_key(point, seed) for point in points for seed in spec.seeds}
    if is_of_earlier_version:
        # Each of its trials had draws of its own.
        ended |= dict.fromkeys(every - known.keys())
    ended = {key: score for key, score in ended.items() if key in every}
    return Trials(points, ended, folders, _trains_on_from(folder))


def adopt_lost_points(spec: Spec, folder: Path, known: Collection[KnownTrial]) -> None:
    """Puts points into the journal of a study that it has lost: those of the trials."""
    try:
        journal = Journal.read(folder, search_seed(spec))
    except ValueError as error:
        click.echo(f"{error} The search continues from the points of its trials.", err=True)
        journal = Journal(folder, search_seed(spec))
    listed = {point_key(point) for point in journal.points}
    of_trials = {point_key(trial.point): trial.point for trial in known}
    journal.points.extend(point for key, point in of_trials.items() if key not in listed)
    journal.write()


def trains_on_of(spec: Spec, folder: Path) -> Callable[[KnownTrial], bool]:
    """Whether a trial that ended at the earlier end of the run has to train further.

    A point that the scheduler has stopped stays stopped.
    """
    trains_on_from, scheduler = _trains_on_from(folder), scheduler_of(spec, folder)

    def trains_on(trial: KnownTrial) -> bool:
        is_stopped = scheduler is not None and scheduler.score_at_stop(trial.point) is not None
        return (
            trains_on_from is not None
            and steps_of(trial.result, 0) >= trains_on_from
            and not has_reached(spec.stop, trial.result)
            and not is_stopped
        )

    return trains_on


def _trains_on_from(folder: Path) -> int | None:
    found: int | None = read_description(folder).get(TRAINS_ON_KEY)
    return found


def has_unstarted(spec: Spec, folder: Path) -> bool:
    """Whether a listed trial of a run has no folder yet, and is not stopped by the scheduler.

    Or whether a trial has to train further, because the run got a later end.
    """
    trials = known_trials(folder)
    if any(map(trains_on_of(spec, folder), trials)):
        return True
    known = {trial_key(trial.point, trial.seed) for trial in trials}
    if not (folder / POINTS_FILE).is_file():
        return False  # an earlier version, or lost: only Tune knows
    scheduler = scheduler_of(spec, folder)
    if adapts(spec):
        try:
            num_listed = len(read_points(folder))
        except ValueError:
            return True  # `rebuilt` says so, and finds the points of the trials
        if num_listed < num_points(spec):
            return True
    return any(
        trial_key(point, seed) not in known
        for point in saved_points(spec, folder)
        if scheduler is None or scheduler.score_at_stop(point) is None
        for seed in spec.seeds
    )


def can_continue(folder: Path) -> bool:
    """Whether a run has got as far as its points or its first trial, which is then known."""
    begun = (POINTS_FILE, _TUNER, f"*/{TRIAL_FILE}")
    return any(next(folder.glob(pattern), None) for pattern in begun)


def set_aside(folder: Path, damaged: Sequence[str]) -> None:
    """Prints what is damaged, and renames Tune's files, so that Tune does not read them.

    Args:
        folder: The run's folder.
        damaged: From `damaged_files`.
    """
    click.echo(
        f"Ray Tune's state in {folder} is damaged or lost: {', '.join(damaged)}. The run continues "
        "from its other files. Those of Tune are renamed to *.damaged and *.old.",
        err=True,
    )
    note_fault(folder, "rebuilt", f"damaged or lost: {', '.join(damaged)}")
    for path in _state_files(folder):
        suffix = "damaged" if path.name in damaged else "old"
        path.rename(path.with_name(f"{path.name}.{suffix}"))


def remove_tune_state(folder: Path) -> None:
    """Removes Tune's own files of a run that continues from its other files."""
    for path in _state_files(folder):
        path.unlink()


def _state_files(folder: Path) -> list[Path]:
    patterns = (_TUNER, _TRIALS, *_SEARCH, *_EARLIER_SEARCH, *_OTHERS)
    return [path for pattern in patterns for path in folder.glob(pattern)]
