"""Reads the files of a run. It starts nothing and unpickles nothing."""

import csv
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rlssl.analysis.points import Point, point_key, read_points, read_stops
from rlssl.analysis.rows import FAULTS, ResultRows, flatten, parse_result
from rlssl.clocks import clock_of, steps_of
from rlssl.errors import one_screen
from rlssl.run_files import (
    EPISODES_FILE,
    ERROR_FILE,
    RESULTS_FILE,
    RUN_FILE,
    SPEC_FILE,
    SWEEP_SPEC_FILE,
    TRIAL_FILE,
)
from rlssl.system.yaml_files import read_yaml

FloatArray = NDArray[np.float64]

_EPISODE_COLUMNS = ("env_steps", "return", "length", "success")


@dataclass(frozen=True)
class Episodes:
    """The finished episodes of one trial, in the order of the file.

    Args:
        env_steps: [num_episodes], env steps (frames) of the whole trial at the episode's end.
        returns: [num_episodes], sum of the extrinsic, unclipped rewards of the whole episode; of
            the whole game for Atari.
        lengths: [num_episodes], agent steps.
        successes: [num_episodes], 1 or 0; NaN if the environment reports no success.

    Example:
        >>> unknown = np.full(2, np.nan)
        >>> len(Episodes(np.array([10.0, 20.0]), np.array([1.0, 3.0]), np.array([10, 10]), unknown))
        2
    """

    env_steps: FloatArray
    returns: FloatArray
    lengths: FloatArray
    successes: FloatArray

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.returns)


@dataclass(frozen=True)
class Trial:
    """The contents of one trial's folder.

    Args:
        path: The absolute folder.
        spec: The resolved spec.
        point: The searched values by dotted path, without the seed.
        seed: The trial's seed.
        variant_label: The point as short text, as the sweep labeled it; may be empty.
        results: Tune's results in the order of env steps; nested keys are joined by "/".
        episodes: The finished episodes.
        status: "finished"; "stopped" by the scheduler; "failed"; or "unfinished": still running, or
            interrupted. A trial that is not in the folder of a run counts as finished.
        sweep_seeds: The seeds that the sweep gives to every point; empty if it is not known.
        stopped_at: Env steps of the rung at which the scheduler stopped the trial's point.
        problems: Lines of its files that were skipped, each with file, line and reason.
        undone_faults: Faults that the results no longer count, because the trial continued from an
            earlier checkpoint after them.
    """

    path: Path
    spec: Mapping[str, Any]
    point: Mapping[str, Any]
    seed: int
    variant_label: str
    results: list[dict[str, Any]]
    episodes: Episodes
    status: str = "finished"
    sweep_seeds: tuple[int, ...] = ()
    stopped_at: int | None = None
    problems: tuple[str, ...] = ()
    undone_faults: Mapping[str, int] = field(default_factory=dict)

    def num_faults(self, name: str) -> int:
        """How often a fault of the results' ``faults`` happened, also before a restart."""
        last = self.results[-1] if self.results else {}
        return int(last.get(f"{FAULTS}{name}", 0)) + self.undone_faults.get(name, 0)

    @property
    def clock(self) -> str:
        """What the trial counts: env steps, or updates if it made none; see `rlssl.clocks`."""
        return clock_of(self.results[-1] if self.results else self.spec.get("stop") or {})

    @property
    def steps(self) -> int:
        """How far the trial got, on its clock."""
        return steps_of(self.results[-1], 0) if self.results else 0

    @property
    def is_complete(self) -> bool:
        """Whether the trial came to its end, so that its score can be compared."""
        return self.status in ("finished", "stopped")


@dataclass(frozen=True)
class Run:
    """The contents of a run's folder.

    Args:
        path: The absolute folder.
        trials: The trials that have reported, in the order of their points.
        points: Every point of the search; empty for runs of earlier versions.
        problems: What could not be read, each with file and reason.
    """

    path: Path
    trials: list[Trial]
    points: list[Point]
    problems: list[str]


def read_trial(path: str | Path) -> Trial:
    r"""Reads a trial's folder.

    Lines that cannot be read are skipped, with a warning that names file and line. An incomplete
    last line, as a killed run may leave, is skipped without a warning.

    Args:
        path: A folder with ``spec.yaml``, ``trial.json``, ``result.json`` and ``episodes.csv``.

    Returns:
        The trial.

    Raises:
        FileNotFoundError: If one of the four files is missing.
        ValueError: If nothing in a file can be read; names the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "trial.json").write_text('{"point": {}, "seed": 7}')
        >>> _ = (folder / "spec.yaml").write_text("algorithm: ppo")
        >>> _ = (folder / "result.json").write_text('{"env_steps": 9, "aux": {"icm": {"f": 1}}}')
        >>> header = "env_steps,return,length,success"
        >>> _ = (folder / "episodes.csv").write_text(f"{header}\n9,2.5,9,\n")
        >>> trial = read_trial(folder)
        >>> trial.seed, trial.results, trial.episodes.returns
        (7, [{'env_steps': 9, 'aux/icm/f': 1}], array([2.5]))
    """
    folder = Path(path).resolve()
    trial = _read_trial(folder, _RunFiles.read(folder.parent))
    _warn(trial.problems)
    return trial


def read_sweep(path: str | Path) -> list[Trial]:
    """Reads all trials in a sweep's folder, or the one trial of a trial's folder.

    Args:
        path: A sweep's or a trial's folder.

    Returns:
        The trials, in the order of their points. Trials that never reported a result are left out.
        Trials and lines that cannot be read are left out with a warning.

    Raises:
        FileNotFoundError: If ``path`` is not a folder.
        ValueError: If no trial has reported a result, or none can be read; names the files.

    Example:
        >>> for trial in read_sweep("results/quickstart"):  # doctest: +SKIP
        ...     print(trial.variant_label, trial.seed, trial.episodes.returns[-20:].mean())
    """
    run = read_run(path)
    _warn(run.problems)
    return run.trials


def read_run(path: str | Path) -> Run:
    """Reads a run's folder, or a trial's; gives no warnings: problems are in the result.

    Args:
        path: As in ``read_sweep``.

    Raises:
        FileNotFoundError: As in ``read_sweep``.
        ValueError: As in ``read_sweep``.

    Example:
        >>> read_run("results/quickstart").problems  # doctest: +SKIP
        []
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the folder of a sweep or a trial.")
    is_trial = (folder / TRIAL_FILE).is_file()
    files = _RunFiles.read(folder.parent if is_trial else folder)
    candidates = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    trials, problems = [], list(files.problems)
    for candidate in filter(_has_reported, candidates):
        try:
            trials.append(_read_trial(candidate, files))
        except (OSError, ValueError) as error:
            problems.append(str(error))
        else:
            problems.extend(trials[-1].problems)
    if not trials and problems:
        raise ValueError(f"no trial of {folder} can be read:\n" + "\n".join(problems))
    if not trials:
        raise ValueError(_nothing_reported(folder))
    trials.sort(key=files.place)
    if files.is_run:
        trials = _without_doubles(trials, problems)
    return Run(folder, trials, [] if is_trial else files.points, problems)


def _nothing_reported(folder: Path) -> str:
    """Why there is nothing to read, in words."""
    failed = sorted(folder.glob(f"*/{ERROR_FILE}"))
    if not failed:
        return f"{folder} has no trial with a result.json; no trial has reported yet."
    first = failed[0].read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return (
        f"{folder} has no result: {len(failed):,} of its trials failed before their first one. "
        f"{failed[0]}: {one_screen(''.join(first))}"
    )


def _without_doubles(trials: Sequence[Trial], problems: list[str]) -> list[Trial]:
    """One trial for each point and seed. A killed driver may leave the beginning of a second."""
    best: dict[tuple[str, int], Trial] = {}
    for trial in trials:
        key = (point_key(trial.point), trial.seed)
        known = best.setdefault(key, trial)
        if known is not trial:
            longer, shorter = sorted([trial, known], key=_progress, reverse=True)
            best[key] = longer
            problems.append(f"{shorter.path} repeats {longer.path}; left out.")
    return list(best.values())


def _progress(trial: Trial) -> tuple[bool, float]:
    return trial.is_complete, steps_of(trial.results[-1]) if trial.results else 0.0


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        warnings.warn(problem, stacklevel=3)


@dataclass(frozen=True)
class _RunFiles:
    """What the folder of a run says about its trials."""

    is_run: bool
    seeds: tuple[int, ...]
    points: list[Point]
    # Point as text -> env steps of the rung at which it was stopped.
    stops: Mapping[str, int]
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "_RunFiles":
        if not (folder / RUN_FILE).is_file():
            return cls(False, (), [], {})
        problems: list[str] = []

        def read_or_note(reader: Callable[[Path], Any], path: Path, default: Any) -> Any:
            try:
                return reader(path) if path.exists() else default
            except (OSError, ValueError) as error:
                problems.append(str(error))
                return default

        spec = read_or_note(_read_spec, folder / SWEEP_SPEC_FILE, {})
        points = read_or_note(read_points, folder, [])
        stops = read_or_note(read_stops, folder, {})
        seeds = tuple(spec.get("seeds") or ())
        if not points and _draws_values(spec):
            seeds = ()  # an earlier version drew other values for each seed
        return cls(True, seeds, points, stops, problems)

    def place(self, trial: Trial) -> tuple[int, str]:
        """Sorts trials by the index of their point, then by folder."""
        own = point_key(trial.point)
        indices = [point.index for point in self.points if point_key(point.values) == own]
        return (indices[0] if indices else len(self.points), trial.path.name)


def _read_trial(folder: Path, files: _RunFiles) -> Trial:
    description = _read_object(folder / TRIAL_FILE)
    _require_keys(folder / TRIAL_FILE, description, ("point", "seed"))
    problems: list[str] = []
    results, undone = _read_results(folder / RESULTS_FILE, problems)
    stopped_at = files.stops.get(point_key(description["point"]))
    return Trial(
        path=folder,
        spec=_read_spec(folder / SPEC_FILE),
        point=description["point"],
        seed=int(description["seed"]),
        variant_label=str(description.get("variant_label") or ""),
        results=results,
        episodes=_read_episodes(folder / EPISODES_FILE, problems),
        status=trial_status(folder, results, stopped_at, is_run=files.is_run),
        sweep_seeds=files.seeds,
        stopped_at=stopped_at,
        problems=tuple(problems),
        undone_faults=undone,
    )


def _draws_values(spec: Mapping[str, Any]) -> bool:
    """Whether the search of a run has anything else than grids."""
    search = spec.get("search")
    spaces = search.values() if isinstance(search, dict) else []
    return any(not isinstance(space, dict) or "grid" not in space for space in spaces)


def trial_status(
    folder: Path, results: Sequence[Mapping[str, Any]], stopped_at: int | None, *, is_run: bool
) -> str:
    """The `Trial.status`.

    Args:
        folder: The trial's folder.
        results: Its results.
        stopped_at: Env steps of the rung at which the scheduler stopped its point; None: it did
            not.
        is_run: Whether the trial is in the folder of a run.

    Example:
        >>> trial_status(Path("/nowhere"), [{"env_steps": 9, "done": True}], None, is_run=True)
        'finished'
    """
    has_ended = bool(results and results[-1].get("done"))
    if (folder / ERROR_FILE).is_file() and not has_ended:
        return "failed"
    if stopped_at is not None:
        return "stopped"
    return "finished" if has_ended or not is_run else "unfinished"


def _has_reported(folder: Path) -> bool:
    results = folder / RESULTS_FILE
    return results.is_file() and results.stat().st_size > 0


def _text(path: Path) -> str:
    """The text of a file. Bytes that are no UTF-8 are replaced, so that other lines can be read."""
    return path.read_text(encoding="utf-8", errors="replace")


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = read_yaml(_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{path} must contain a mapping; got {type(spec).__name__}.")
    return spec


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must contain a JSON object; got {type(content).__name__}.")
    return content


def _require_keys(path: Path, content: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; its keys are {sorted(content)}.")


def _read_results(
    path: Path, problems: list[str]
) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """Reads the results: the rows of `ResultRows`, and the `Trial.undone_faults`."""
    kept = ResultRows()
    skipped = _SkippedLines(path)
    for row in _json_lines(path, skipped):
        kept.add(dict(flatten(row)))
    if not kept.rows and skipped.count:
        raise ValueError(f"no line of {path} can be read: {skipped.first}.")
    problems.extend(skipped.problems())
    return kept.rows, kept.undone_faults


class _SkippedLines:
    """The lines of a file that cannot be read: the first one, and how many there are."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.first = path, 0, ""

    def add(self, line: int, words: str) -> None:
        self.count += 1
        self.first = self.first or f"{self.path}, line {line}, {words}"

    def problems(self) -> list[str]:
        others = {1: "", 2: ", and one more line"}.get(
            self.count, f", and {self.count - 1} more lines"
        )
        return [f"{self.first}; skipped{others}."] if self.count else []


def _json_lines(path: Path, skipped: _SkippedLines) -> Iterator[dict[str, Any]]:
    lines = _text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield parse_result(line)
        except json.JSONDecodeError as error:
            if number < len(lines):  # else the run was killed while it wrote this line
                skipped.add(number, f"is not JSON: {error}")
        except ValueError as error:
            skipped.add(number, str(error))


def _read_episodes(path: Path, problems: list[str]) -> Episodes:
    *complete, _ = _text(path).split("\n")  # a killed run may leave an incomplete row
    header = next(csv.reader(complete[:1]), [])
    missing = [name for name in _EPISODE_COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path} has no columns {', '.join(missing)}; its header is {header}.")
    indices = [header.index(name) for name in _EPISODE_COLUMNS]
    whole = _parse_rows(complete[1:], indices)
    if whole is not None:
        return Episodes(*whole.T)
    rows, skipped = [], _SkippedLines(path)
    for number, line in enumerate(complete[1:], start=2):
        row = _parse_row(line, indices)
        if row is None:
            skipped.add(number, f"is not a row of numbers: {line[:80]!r}")
        else:
            rows.append(row)
    problems.extend(skipped.problems())
    return Episodes(*np.array(rows, np.float64).reshape(-1, len(indices)).T)


def _parse_rows(lines: Sequence[str], indices: list[int]) -> FloatArray | None:
    """All rows at once, ten times as fast as one by one; None if a row is damaged."""
    if not lines:
        return None
    filled = [f"{line}nan" if line.endswith(",") else line for line in lines]
    try:
        rows = np.loadtxt(filled, delimiter=",", usecols=indices, comments=None, ndmin=2)
    except ValueError:
        return None
    is_whole = len(rows) == len(lines) and bool(np.isfinite(rows[:, :-1]).all())
    return rows if is_whole else None


def _parse_row(line: str, indices: list[int]) -> list[float] | None:
    """The numbers of a row; None if it is damaged. Only the success may be missing."""
    cells = line.rstrip("\r").split(",")
    try:
        row = [float(cells[index] or "nan") for index in indices]
    except (ValueError, IndexError):
        return None
    return row if all(math.isfinite(value) for value in row[:-1]) else None
