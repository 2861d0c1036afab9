"""Reads what a run left on disk. Never starts anything, never unpickles anything."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rlssl.run_files import EPISODES_FILE, RESULTS_FILE, SPEC_FILE, TRIAL_FILE

FloatArray = NDArray[np.float64]

_EPISODE_COLUMNS = ("env_steps", "return", "length", "success")


@dataclass(frozen=True)
class Episodes:
    """The finished episodes of one trial, in the order in which they were written.

    Args:
        env_steps: [num_episodes], env steps (frames) of the whole trial at the episode's end.
        returns: [num_episodes], sum of the extrinsic, unclipped rewards of the whole game.
        lengths: [num_episodes], agent steps.
        successes: [num_episodes], 1 or 0; NaN where the environment does not say.
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
    """One trial's folder, read.

    Args:
        path: The folder, absolute.
        spec: The resolved spec.
        point: The searched values, by dotted path; the seed is not among them.
        seed: The trial's seed.
        variant_label: The point in words, as the sweep named it; may be empty.
        results: Tune's results in the order of env steps, nested keys joined by "/".
        episodes: The finished episodes.
    """

    path: Path
    spec: Mapping[str, Any]
    point: Mapping[str, Any]
    seed: int
    variant_label: str
    results: list[dict[str, Any]]
    episodes: Episodes


def read_trial(path: str | Path) -> Trial:
    """Reads a trial's folder.

    Args:
        path: Holds ``spec.yaml``, ``trial.json``, ``result.json`` and ``episodes.csv``.

    Returns:
        The trial. A last line that a killed run left half written is passed over.

    Raises:
        FileNotFoundError: If one of the four files is missing.
        ValueError: If a file cannot be read, naming the file and the line.
    """
    folder = Path(path).resolve()
    point = _read_object(folder / TRIAL_FILE)
    _require_keys(folder / TRIAL_FILE, point, ("point", "seed"))
    return Trial(
        path=folder,
        spec=_read_spec(folder / SPEC_FILE),
        point=point["point"],
        seed=int(point["seed"]),
        variant_label=str(point.get("variant_label") or ""),
        results=_read_results(folder / RESULTS_FILE),
        episodes=_read_episodes(folder / EPISODES_FILE),
    )


def read_sweep(path: str | Path) -> list[Trial]:
    """Reads every trial below a sweep's folder, or the one trial whose folder it is.

    Args:
        path: A sweep's or a trial's folder.

    Returns:
        The trials, sorted by folder name. Folders without ``result.json`` are trials that never
        reported, and are left out.

    Raises:
        FileNotFoundError: If ``path`` is no folder, or a trial lacks one of its files.
        ValueError: If no trial below ``path`` has reported a result.
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the folder of a sweep or a trial.")
    candidates = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    trials = [read_trial(candidate) for candidate in candidates if _has_reported(candidate)]
    if not trials:
        raise ValueError(f"{folder} holds no trial with a result.json; did any trial report?")
    return trials


def _has_reported(folder: Path) -> bool:
    results = folder / RESULTS_FILE
    return results.is_file() and results.stat().st_size > 0


def _read_spec(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        spec = yaml.safe_load(file)
    if not isinstance(spec, dict):
        raise ValueError(f"{path} must hold a mapping; got {type(spec).__name__}.")
    return spec


def _read_object(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(content).__name__}.")
    return content


def _require_keys(path: Path, content: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; got the keys {sorted(content)}.")


def _read_results(path: Path) -> list[dict[str, Any]]:
    """Reads the results; of rows that a resumed run repeated, the later ones count.

    A run resumed from a checkpoint reports again from the checkpoint's env steps on, so that a row
    makes every earlier row with as many env steps or more void.
    """
    rows: list[dict[str, Any]] = []
    for row in _json_lines(path):
        flat = dict(_flatten(row))
        if "env_steps" not in flat:
            continue  # a report from before the first sample
        while rows and rows[-1]["env_steps"] >= flat["env_steps"]:
            rows.pop()
        rows.append(flat)
    return rows


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return  # killed while writing
            raise ValueError(f"{path}, line {number}, is no JSON: {error}.") from error


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _read_episodes(path: Path) -> Episodes:
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]  # a killed run may leave half a row
    header, *rows = list(csv.reader(complete.splitlines())) or [[]]
    missing = [name for name in _EPISODE_COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; its header is {header}.")
    indices = [header.index(name) for name in _EPISODE_COLUMNS]
    table = np.empty((len(rows), len(indices)))
    for number, row in enumerate(rows):
        table[number] = _parse_row(path, number + 2, row, indices)
    return Episodes(*table.T)


def _parse_row(path: Path, line: int, row: list[str], indices: list[int]) -> list[float]:
    try:
        return [float(row[index] or "nan") for index in indices]
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}, line {line}, is no row of numbers: {row}.") from error
