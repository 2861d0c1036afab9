"""Writes the results of trials: result.json, progress.csv, params.json, TensorBoard's files.

The classes are subclasses of Tune's own loggers, so that Tune does not add those. They write
straight into a trial's folder, where a kill of the driver loses nothing. Their x axis is env steps.
"""

import contextlib
import csv
import functools
import io
import math
import numbers
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from ray.tune.utils.util import SafeFallbackEncoder

from rlssl.clocks import (
    ENV_STEPS,
    UPDATES,
    at_start_key,
    clock_of,
    has_steps,
    start_of,
    steps_of,
)
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.trackers import TENSORBOARD, trackers_of
from rlssl.experiment.tuning import event_files
from rlssl.experiment.tuning.callbacks import TrialFiles, read_effective, trial_folder
from rlssl.experiment.tuning.trial_config import SEED_KEY
from rlssl.run_files import EFFECTIVE, EVENT_FILES, PARAMETERS_FILE, PROGRESS_FILE, RESULTS_FILE
from rlssl.system.files import append, replace
from rlssl.system.json_output import readable_json

#: Where TensorBoard compares hyper-parameters, it shows these metrics.
HPARAM_METRICS = ("episode_return_mean", "success_rate", "evaluation/episode_return_mean")

#: Keys of a result that are no metrics.
_BOOKKEEPING = (
    "date",
    "done",
    at_start_key(ENV_STEPS),
    at_start_key(UPDATES),
    "episodes",
    "experiment_tag",
    "hostname",
    "iterations_since_restore",
    "node_ip",
    "num_training_step_calls_per_iteration",
    "pid",
    "should_checkpoint",
    "time_since_restore",
    "timestamp",
    "training_iteration",
    "trial_id",
)
#: What these begin is RLlib's second name of a metric.
_NOT_SHOWN = (
    "env_runners/agent_",
    "env_runners/episode_return_mean",
    "env_runners/faults/",
    "env_runners/module_",
    "env_runners/num_agent_steps_",
    "env_runners/num_env_steps_sampled_lifetime",
    "env_runners/num_module_steps_",
    "learners/__all_modules__/",
    "learners/default_policy/aux/",
    "learners/faults/",
    "num_env_steps_sampled_lifetime",
)


#: Types of most values of a result.
_PLAIN = frozenset([float, int, bool, str])


class _PerTrial:
    """State of each trial. Tune saves loggers with the experiment; a new process starts over."""

    def __init__(self) -> None:
        self._env_steps: dict[str, int] = {}
        self._folders: dict[str, Path] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_env_steps": {}, "_folders": {}}

    def log_trial_start(self, trial: Trial) -> None:
        """Tune's hook; also called when a trial is restarted."""
        self._env_steps.pop(trial.trial_id, None)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Tune's hook."""
        self._folders.pop(trial.trial_id, None)

    def _folder(self, trial: Trial) -> Path:
        """The folder of a trial, kept because Tune builds the path again at every request."""
        folder = self._folders.get(trial.trial_id)
        if folder is None:
            folder = self._folders[trial.trial_id] = trial_folder(trial)
        return folder

    def _last_valid(self, trial: Trial, result: Mapping[str, Any]) -> int | None:
        """Env steps of the last earlier row that stays valid; None: all of them do.

        A trial that restarts from a checkpoint repeats the env steps after the checkpoint.
        """
        new, last = steps_of(result), self._env_steps.get(trial.trial_id)
        if last is None:
            return min(start_of(result), new - 1)
        return new - 1 if new <= last else None

    def _note_written(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Takes note of a result that is in the file: one that is not is written again."""
        self._env_steps[trial.trial_id] = steps_of(result, 0)


class ResultsFile(_PerTrial, JsonLoggerCallback):
    """``result.json``: one result a line; ``params.json``: the trial's config."""

    def log_trial_start(self, trial: Trial) -> None:
        """Tune's hook; also called when a trial is restarted."""
        super().log_trial_start(trial)
        drop_incomplete_line(trial_folder(trial) / RESULTS_FILE)
        self.update_config(trial, trial.config)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Tune's hook."""
        line = readable_json(_without_config(result), cls=SafeFallbackEncoder) + "\n"
        if trial.trial_id not in self._env_steps:
            # `TrialFiles` has just written the settings as used into spec.yaml.
            self.update_config(trial, trial.config)
        append(self._folder(trial) / RESULTS_FILE, line.encode())
        self._note_written(trial, result)

    def update_config(self, trial: Trial, config: dict[str, Any]) -> None:
        """Writes params.json, with the settings as used if they are known."""
        folder = trial_folder(trial)
        content = {**config, EFFECTIVE: read_effective(folder)}
        text = readable_json(content, indent=2, sort_keys=True, cls=SafeFallbackEncoder)
        replace(folder / PARAMETERS_FILE, text.encode())


class ProgressTable(_PerTrial, CSVLoggerCallback):
    """``progress.csv``: one row a result, with every column that ever appears."""

    def __init__(self) -> None:
        super().__init__()
        # Trial id -> the names of its columns, in order.
        self._columns: dict[str, dict[str, None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_columns": {}}

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Tune's hook."""
        if not has_steps(result):
            return
        path = self._folder(trial) / PROGRESS_FILE
        row = dict(flatten(_without_config(result)))
        keep_until = self._last_valid(trial, result)
        columns = self._columns.get(trial.trial_id, {})
        if keep_until is None and row.keys() <= columns.keys():
            append(path, _csv_text([[row.get(name, "") for name in columns]]))
            self._note_written(trial, result)
            return
        old_columns, rows = read_progress(path)
        if keep_until is not None:
            rows = [old for old in rows if _env_steps(old) <= keep_until]
        columns = dict.fromkeys([*old_columns, *row])
        table = [[each.get(name, "") for name in columns] for each in [*rows, row]]
        replace(path, _csv_text([list(columns), *table]))
        self._columns[trial.trial_id] = columns
        self._note_written(trial, result)


class TensorBoard(_PerTrial, TBXLoggerCallback):
    """TensorBoard's event files, in a trial's folder."""

    def __init__(self, *, is_on: bool = True) -> None:
        super().__init__()
        self._is_on = is_on
        self._files: dict[str, Path] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_files": {}}

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Tune's hook."""
        if not self._is_on or not has_steps(result):
            return
        keep_until = self._last_valid(trial, result)
        if keep_until is not None:
            self._files[trial.trial_id] = start_event_file(
                trial_folder(trial), _hparams(trial), keep_until=keep_until
            )
        data = event_files.scalars(metrics_of(result), steps_of(result))
        append(self._files[trial.trial_id], data)
        self._note_written(trial, result)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Tune's hook."""
        super().log_trial_end(trial, failed)
        path = self._files.pop(trial.trial_id, None)
        if path is not None:
            append(path, event_files.end_of_session(failed=failed))


def trial_loggers(spec: Spec) -> list[Callback]:
    """Everything that writes files into the folders of trials, in the order of their calls."""
    tensorboard = TensorBoard(is_on=TENSORBOARD in trackers_of(spec.tracking))
    return [TrialFiles(), ResultsFile(), ProgressTable(), tensorboard]


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result under the names in the docs, each once; nan is left out.

    Example:
        >>> metrics_of({"pid": 7, "aux": {"icm": {"inverse": 0.5}}, "success_rate": math.nan})
        {'aux/icm/inverse': 0.5}
    """
    return {
        name: float(value)
        for name, value in flatten(_without_config(result))
        if _is_number(value) and _is_shown(name)
    }


def _without_config(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without the config, which Tune adds to each; params.json has it once."""
    return {key: value for key, value in result.items() if key != "config"}


def _is_number(value: Any) -> bool:
    """Whether a value is a number, and not nan; most are plain floats."""
    if type(value) is float:
        return value == value
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and not math.isnan(value)


@functools.lru_cache(maxsize=10_000)
def _is_shown(name: str) -> bool:
    return name not in _BOOKKEEPING and not name.startswith(_NOT_SHOWN)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, their keys joined by "/".

    Example:
        >>> dict(flatten({"aux": {"icm": {"inverse": 0.5}}}))
        {'aux/icm/inverse': 0.5}
    """
    for key, value in nested.items():
        # The first tests are much faster, and most values are floats.
        kind = type(value)
        if kind is dict or (kind not in _PLAIN and isinstance(value, Mapping)):
            for name, below in flatten(value, f"{key}/"):
                yield prefix + name, below
        else:
            yield f"{prefix}{key}", value


def start_event_file(folder: Path, settings: Mapping[str, Any], *, keep_until: int) -> Path:
    """Begins an event file with the metrics of the earlier files; deletes the earlier files.

    Args:
        folder: The trial's folder.
        settings: The hyper-parameters to show.
        keep_until: Env steps; later metrics of the earlier files are dropped.

    Returns:
        The new file.
    """
    earlier = sorted(folder.glob(EVENT_FILES))
    kept = event_files.kept_scalars((path.read_bytes() for path in earlier), keep_until=keep_until)
    # TensorBoard reads the files of a folder in the order of their names.
    start = EVENT_FILES.replace("*", f"{int(time.time())}.{socket.gethostname()}")
    path = folder / start
    while path in earlier:
        path = path.with_name(f"{path.name}.1")
    hparams = event_files.hyper_parameters(settings, HPARAM_METRICS)
    replace(path, event_files.beginning() + hparams + kept)
    for old in earlier:
        old.unlink()
    return path


def read_progress(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the complete rows of ``progress.csv``; none without a file."""
    if not path.exists():
        return [], []
    text = path.read_text(encoding="utf-8", errors="replace")
    columns, *rows = list(_csv_rows(text[: text.rfind("\n") + 1])) or [[]]
    complete = (row for row in rows if len(row) == len(columns))
    return columns, [dict(zip(columns, row, strict=True)) for row in complete]


def _csv_rows(text: str) -> Iterator[list[str]]:
    """The rows of a CSV file; of a damaged one, the rows of its readable lines."""
    try:
        yield from list(csv.reader(io.StringIO(text)))
    except csv.Error:
        for line in text.splitlines():
            with contextlib.suppress(csv.Error):
                yield from csv.reader([line])


def drop_incomplete_line(path: Path) -> None:
    """Deletes what a kill left of the last line of a file, so that the next line is readable."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _hparams(trial: Trial) -> dict[str, Any]:
    """The settings as used, without nesting. Values that are not numbers become text."""
    used = {SEED_KEY: trial.config[SEED_KEY], **(read_effective(trial_folder(trial)) or {})}
    flat = {name.replace("/", "."): value for name, value in flatten(used)}
    return {
        name: value if isinstance(value, bool | int | float) else str(value)
        for name, value in flat.items()
    }


def _csv_text(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _env_steps(row: Mapping[str, str]) -> float:
    try:
        return float(row.get(clock_of(row), ""))
    except ValueError:
        return math.inf  # a damaged row is dropped
