"""Follows the trials of a run: each look reads only what is new in their files."""

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlssl.analysis.live.growing_file import GrowingFile
from rlssl.analysis.live.points import (
    DEFAULT_OBJECTIVE,
    ENDED,
    ERROR,
    PENDING,
    RUNNING,
    TERMINATED,
    PointProgress,
    SeedProgress,
)
from rlssl.analysis.objective import AREA_OF, OBJECTIVE, Objective
from rlssl.analysis.points import Point, point_key, read_points, read_stops
from rlssl.analysis.results import trial_status
from rlssl.analysis.rows import FAULTS, ResultRows, flatten, parse_result
from rlssl.clocks import ENV_STEPS, UPDATES, at_start_key, clock_of, start_of, steps_of
from rlssl.run_files import ERROR_FILE, RESULTS_FILE, SWEEP_SPEC_FILE, TRIAL_FILE
from rlssl.system.yaml_files import read_yaml

#: Seconds of training over which the speed of a trial is measured.
_SPEED_S = 60.0

#: Seconds without a result after which a trial is called quiet, and the least number of reports.
_QUIET_S, _QUIET_REPORTS = 60.0, 6

#: The searchers that draw all points at the start.
_DRAWN_AT_ONCE = ("random",)

#: Clock -> the return of a result: of training episodes, or of the last evaluation.
_RETURNS = {ENV_STEPS: Objective(AREA_OF), UPDATES: Objective(f"evaluation/{AREA_OF}")}

#: What is kept of a result besides its faults.
_RETURN, _SCORE, _TIME = "return", "score", "time_since_restore"


@dataclass(frozen=True)
class TrialProgress:
    """What the files of a trial say about it.

    Attributes:
        folder: Name of its folder.
        label: Its point in few words.
        seed: Its seed.
        state: starting (no result yet), running, quiet (no result for a minute or for six reports,
            whichever is longer), finished, stopped (by the scheduler), failed or interrupted.
        env_steps: Of its last result, on its clock.
        goal: Env steps after which it ends; infinite if its run ends otherwise.
        last_return: Mean return of its last result; NaN before the first finished episode.
        course: [n] returns in the order of its steps, without NaN.
        score: The objective; NaN before its first value.
        env_steps_per_s: In its last minute of training; NaN before the first result.
        faults: Number of faults of its environments and processes, by their names in results.
        age_s: Seconds since its last result; NaN before the first one.
        clock: What the steps count; see `rlssl.clocks`.
    """

    folder: str
    label: str
    seed: int
    state: str
    env_steps: int
    goal: float
    last_return: float
    course: list[float]
    score: float
    env_steps_per_s: float
    faults: Mapping[str, int]
    age_s: float
    clock: str = ENV_STEPS

    def num_faults(self, name: str) -> int:
        """How often a fault of the results' ``faults`` happened."""
        return self.faults.get(name, 0)


@dataclass(frozen=True)
class RunProgress:
    """What the files of a run say about it.

    Attributes:
        name: Name of its folder.
        trials: The trials that have begun, in the order of their points.
        points: The points and the scores of their trials.
        objective: What the scores are.
        num_expected: Number of trials of the whole run, at most; 0: not known yet.
        share: Share of the steps that are done, in [0, 1]; NaN if trials have no goal. The
            rest of a trial that failed is not done; that of a stopped one is not to be done.
        seconds_left: At the present speed; NaN if it is not known.
        problems: Files that could not be read, each with a reason.
        clock: What the steps of its trials count; see `rlssl.clocks`.
    """

    name: str
    trials: list[TrialProgress]
    points: list[PointProgress]
    objective: Objective
    num_expected: int
    share: float
    seconds_left: float
    problems: list[str]
    clock: str = ENV_STEPS

    def count(self, *states: str) -> int:
        """Number of trials in one of these states."""
        return sum(trial.state in states for trial in self.trials)


@dataclass(frozen=True)
class _Sweep:
    """What ``sweep.yaml`` says that matters here."""

    objective: Objective = DEFAULT_OBJECTIVE
    goal: float = math.inf
    clock: str = ENV_STEPS
    num_seeds: int = 1
    # Number of points that a searcher chooses, one after the other; 0: all are listed.
    num_points: int = 0
    quiet_s: float = _QUIET_S

    @classmethod
    def read(cls, path: Path) -> "_Sweep":
        spec = read_yaml(path.read_text(encoding="utf-8"))
        if not isinstance(spec, dict):
            raise ValueError(f"{path} must contain a mapping; got {type(spec).__name__}.")
        searchers = {
            name: settings
            for name, settings in (spec.get("searcher") or {}).items()
            if name not in _DRAWN_AT_ONCE and isinstance(settings, dict)
        }
        numbers = [int(settings.get("num_samples") or 0) for settings in searchers.values()]
        return cls(
            objective=Objective.of(spec),
            goal=_goal(spec.get("stop") or {}),
            clock=clock_of(spec.get("stop") or {}),
            num_seeds=max(len(spec.get("seeds") or ()), 1),
            num_points=max(numbers, default=0),
            quiet_s=max(_QUIET_S, _QUIET_REPORTS * float(spec.get("report_every_s") or 0.0)),
        )


class RunFollower:
    """Follows a run that trains, or that has ended.

    Args:
        folder: The run's folder; its files may be missing yet.

    Example:
        >>> import tempfile
        >>> RunFollower(Path(tempfile.mkdtemp())).look(is_running=True).trials
        []
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trials: dict[str, _FollowedTrial] = {}
        self._sweep = _Sweep()
        # Time of change and size of `sweep.yaml` when it was read.
        self._sweep_read_at = (0, 0)

    def look(self, *, is_running: bool) -> RunProgress:
        """Reads what is new.

        Args:
            is_running: Whether a process runs the run now.
        """
        problems: list[str] = []
        sweep = self._read_sweep(problems)
        points, stops = self._read_points(problems)
        for path in self._folder.glob(f"*/{TRIAL_FILE}"):
            name = path.parent.name
            if name not in self._trials:
                self._trials[name] = _FollowedTrial(path.parent)
            try:
                self._trials[name].read(sweep.objective)
            except (KeyError, OSError, TypeError, ValueError) as error:
                problems.append(f"{path.parent}: {type(error).__name__}: {error}")
            problems += self._trials[name].damaged
        order = {point_key(point.values): point.index for point in points}
        described = sorted(
            (trial for trial in self._trials.values() if trial.is_described),
            key=lambda trial: (order.get(trial.key, len(order)), trial.seed, trial.folder.name),
        )
        now = time.time()
        shown = [trial.progress(sweep, stops, now, is_running=is_running) for trial in described]
        expected = max(len(points), sweep.num_points, 1) * sweep.num_seeds
        is_planned = bool(points or sweep.num_points or shown)
        keys = [trial.key for trial in described]
        return RunProgress(
            name=self._folder.name,
            trials=shown,
            points=_points_of(keys, shown, points, stops),
            objective=sweep.objective,
            num_expected=max(expected, len(shown)) if is_planned else 0,
            share=_share(shown, sweep, expected) if is_planned else math.nan,
            seconds_left=_seconds_left(shown, sweep, expected),
            problems=problems,
            clock=sweep.clock,
        )

    def _read_sweep(self, problems: list[str]) -> _Sweep:
        """Reads ``sweep.yaml``, which a later end or more seeds change."""
        path = self._folder / SWEEP_SPEC_FILE
        try:
            found = path.stat()
            changed = (found.st_mtime_ns, found.st_size)
            if changed != self._sweep_read_at:
                self._sweep, self._sweep_read_at = _Sweep.read(path), changed
        except FileNotFoundError:
            pass  # the run has just begun
        except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{path} cannot be read: {' '.join(str(error).split())}")
        return self._sweep

    def _read_points(self, problems: list[str]) -> tuple[list[Point], dict[str, int]]:
        try:
            return read_points(self._folder), read_stops(self._folder)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            return [], {}


class _FollowedTrial:
    """The files of one trial, and what has been read of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_described, self.key, self.seed, self.label = False, "", 0, ""
        self._point: Mapping[str, Any] = {}
        self._described_at = 0
        self._file, self._kept = GrowingFile(folder / RESULTS_FILE), ResultRows()
        self._num_lines = 0
        # Lines that could not be read, each with a reason.
        self.damaged: list[str] = []

    def read(self, objective: Objective) -> None:
        """Reads what is new.

        Raises:
            KeyError: As all errors here: if ``trial.json`` or ``result.json`` cannot be read.
        """
        self._describe()
        lines, begins_again = self._file.new_lines()
        if begins_again:
            self._kept, self._num_lines, self.damaged = ResultRows(), 0, []
        for line in lines:
            self._num_lines += 1
            try:
                self._kept.add(_kept_of(parse_result(line), objective))
            except ValueError as error:
                self.damaged.append(f"{self._file.path}, line {self._num_lines}: {error}")

    def _describe(self) -> None:
        """Reads ``trial.json``, which is written again when a trial restarts or inherits."""
        path = self.folder / TRIAL_FILE
        changed = path.stat().st_mtime_ns
        if changed == self._described_at:
            return
        content = json.loads(path.read_bytes())
        self._point, self.seed = dict(content["point"]), int(content["seed"])
        self.key, self.label = point_key(self._point), str(content.get("variant_label") or "")
        self._described_at, self.is_described = changed, True

    def progress(
        self, sweep: _Sweep, stops: Mapping[str, int], now: float, *, is_running: bool
    ) -> TrialProgress:
        rows = self._kept.rows
        last: Mapping[str, Any] = rows[-1] if rows else {}
        faults = Counter(self._kept.undone_faults)
        faults.update({key.removeprefix(FAULTS): last[key] for key in last if FAULTS in key})
        age_s = now - float(last["timestamp"]) if "timestamp" in last else math.nan
        course = [row[_RETURN] for row in rows if not math.isnan(row[_RETURN])]
        quiet_s = sweep.quiet_s
        return TrialProgress(
            folder=self.folder.name,
            label=self.label,
            seed=self.seed,
            state=self._state(stops.get(self.key), age_s > quiet_s, is_running=is_running),
            env_steps=steps_of(last, 0),
            clock=clock_of(last) if last else sweep.clock,
            goal=float(self._point.get(f"stop.{sweep.clock}", sweep.goal)),
            last_return=last.get(_RETURN, math.nan),
            course=course,
            score=last.get(_SCORE, math.nan),
            env_steps_per_s=_speed(rows),
            faults=dict(faults),
            age_s=age_s,
        )

    def _state(self, stopped_at: int | None, is_quiet: bool, *, is_running: bool) -> str:
        rows = self._kept.rows
        status = trial_status(self.folder, rows, stopped_at, is_run=True)
        if status == "failed" and is_running and self._has_restarted():
            status = "unfinished"  # a retry leaves the error of the process before
        if status != "unfinished":
            return status
        if not is_running:
            return "interrupted"
        if not rows:
            return "starting"
        return "quiet" if is_quiet else "running"

    def _has_restarted(self) -> bool:
        try:
            return (self.folder / ERROR_FILE).stat().st_mtime_ns < self._described_at
        except FileNotFoundError:
            return True


def _kept_of(row: Mapping[str, Any], objective: Objective) -> dict[str, Any]:
    """The few numbers of a result that are kept; counts of faults only above 0."""
    clock = clock_of(row)
    keys = (at_start_key(clock), "timestamp", _TIME, clock)
    plain = {key: row[key] for key in keys if key in row}
    faults = dict(flatten({FAULTS.strip("/"): row.get(FAULTS.strip("/")) or {}}))
    return {
        **plain,
        **{key: count for key, count in faults.items() if count},
        "done": bool(row.get("done")),
        _RETURN: _number(_RETURNS[clock].score({k: row[k] for k in row if k != OBJECTIVE})),
        _SCORE: _number(objective.score(row)),
    }


def _goal(stop: Mapping[str, Any]) -> float:
    """Where trials end, on their clock; inf: no end is set."""
    return float(stop.get(clock_of(stop), math.inf))


def _number(found: float | None) -> float:
    return math.nan if found is None else found


def _speed(rows: Sequence[Mapping[str, Any]]) -> float:
    """Steps per second of training in the last minute of the last process; NaN: unknown."""
    if not rows or _TIME not in rows[-1]:
        return math.nan
    last = rows[-1]
    start = (0.0, float(start_of(last)))
    for row in reversed(rows):
        if start_of(row) != start_of(last) or _TIME not in row:
            break
        if row[_TIME] <= last[_TIME] - _SPEED_S:
            start = (row[_TIME], steps_of(row))
            break
    seconds = last[_TIME] - start[0]
    return float((steps_of(last) - start[1]) / seconds) if seconds > 0 else math.nan


def _points_of(
    keys: Sequence[str],
    trials: Sequence[TrialProgress],
    points: Sequence[Point],
    stops: Mapping[str, int],
) -> list[PointProgress]:
    """The points of the trials, with the labels of the search."""
    labels = {point_key(point.values): point.label for point in points}
    seeds: dict[str, list[SeedProgress]] = {}
    for key, trial in zip(keys, trials, strict=True):
        labels.setdefault(key, trial.label)
        seed = SeedProgress(_STATUSES.get(trial.state, RUNNING), trial.env_steps, trial.score)
        seeds.setdefault(key, []).append(seed)
    return [PointProgress(labels[key], each, stops.get(key)) for key, each in seeds.items()]


#: State of a trial -> how Ray Tune names it.
_STATUSES = {
    "starting": PENDING,
    "finished": TERMINATED,
    "stopped": TERMINATED,
    "failed": ERROR,
}


def _left(trials: Sequence[TrialProgress], sweep: _Sweep, expected: int) -> float:
    """Env steps that are still to be made; infinite if trials have no goal."""
    begun = sum(max(one.goal - one.env_steps, 0.0) for one in trials if not _has_ended(one))
    waiting = max(expected - len(trials), 0)
    return begun + (waiting * sweep.goal if waiting else 0.0)


def _has_ended(trial: TrialProgress) -> bool:
    return _STATUSES.get(trial.state) in ENDED


def _share(trials: Sequence[TrialProgress], sweep: _Sweep, expected: int) -> float:
    total = sum(one.goal for one in trials) + max(expected - len(trials), 0) * sweep.goal
    failed = (max(one.goal - one.env_steps, 0.0) for one in trials if one.state == "failed")
    left = _left(trials, sweep, expected) + sum(failed)
    return 1.0 - left / total if math.isfinite(total) and total > 0 else math.nan


def _seconds_left(trials: Sequence[TrialProgress], sweep: _Sweep, expected: int) -> float:
    speeds = [one.env_steps_per_s for one in trials if one.state == "running"]
    speed = sum(one for one in speeds if math.isfinite(one))
    left = _left(trials, sweep, expected)
    return left / speed if speed > 0 and math.isfinite(left) else math.nan
