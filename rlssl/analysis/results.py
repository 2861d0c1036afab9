"""Reads the files of a run. It starts nothing and unpickles nothing."""

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
    """

    path: Path
    spec: Mapping[str, Any]
    point: Mapping[str, Any]
    seed: int
    variant_label: str
    results: list[dict[str, Any]]
    episodes: Episodes


def read_trial(path: str | Path) -> Trial:
    r"""Reads a trial's folder.

    Args:
        path: A folder with ``spec.yaml``, ``trial.json``, ``result.json`` and ``episodes.csv``.

    Returns:
        The trial. An incomplete last line, as a killed run may leave, is ignored.

    Raises:
        FileNotFoundError: If one of the four files is missing.
        ValueError: If a file cannot be read; names the file and the line.

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
    """Reads all trials in a sweep's folder, or the one trial of a trial's folder.

    Args:
        path: A sweep's or a trial's folder.

    Returns:
        The trials, sorted by folder name. Trials that never reported a result are left out.

    Raises:
        FileNotFoundError: If ``path`` is not a folder, or a file of a trial is missing.
        ValueError: If no trial has reported a result.

    Example:
        >>> for trial in read_sweep("results/quickstart"):  # doctest: +SKIP
        ...     print(trial.variant_label, trial.seed, trial.episodes.returns[-20:].mean())
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the folder of a sweep or a trial.")
    candidates = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    trials = [read_trial(candidate) for candidate in candidates if _has_reported(candidate)]
    if not trials:
        raise ValueError(f"{folder} has no trial with a result.json; no trial has reported yet.")
    return trials


def _has_reported(folder: Path) -> bool:
    results = folder / RESULTS_FILE
    return results.is_file() and results.stat().st_size > 0


def _read_spec(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        spec = yaml.safe_load(file)
    if not isinstance(spec, dict):
        raise ValueError(f"{path} must contain a mapping; got {type(spec).__name__}.")
    return spec


def _read_object(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must contain a JSON object; got {type(content).__name__}.")
    return content


def _require_keys(path: Path, content: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; its keys are {sorted(content)}.")


def _read_results(path: Path) -> list[dict[str, Any]]:
    """Reads the results; later rows replace earlier rows that a resumed run repeated.

    A run that resumes from a checkpoint reports the env steps after the checkpoint again. So each
    row replaces all earlier rows with equal or more env steps.
    """
    rows: list[dict[str, Any]] = []
    for row in _json_lines(path):
        flat = dict(_flatten(row))
        if "env_steps" not in flat:
            continue  # reported before the first sample
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
                return  # the run was killed while it wrote this line
            raise ValueError(f"{path}, line {number}, is not JSON: {error}.") from error


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _read_episodes(path: Path) -> Episodes:
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]  # a killed run may leave an incomplete row
    header, *rows = list(csv.reader(complete.splitlines())) or [[]]
    missing = [name for name in _EPISODE_COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path} has no columns {', '.join(missing)}; its header is {header}.")
    indices = [header.index(name) for name in _EPISODE_COLUMNS]
    table = np.empty((len(rows), len(indices)))
    for number, row in enumerate(rows):
        table[number] = _parse_row(path, number + 2, row, indices)
    return Episodes(*table.T)


def _parse_row(path: Path, line: int, row: list[str], indices: list[int]) -> list[float]:
    try:
        return [float(row[index] or "nan") for index in indices]
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}, line {line}, is not a row of numbers: {row}.") from error
