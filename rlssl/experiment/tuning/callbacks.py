"""Tune callbacks in the driver: a trial's files, lines about retries, and the progress bar."""

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow.fs
import ray
import yaml
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rlssl.analysis.faults import ENV_FAULTS, fault_words
from rlssl.analysis.table import format_number
from rlssl.clocks import ENV_STEPS, WORDS, clock_of, start_of, steps_of
from rlssl.experiment.checkpoints.inherit import EXPLOITS
from rlssl.experiment.fault_log import note_fault
from rlssl.experiment.provenance import provenance
from rlssl.experiment.remote.checkpoints import newest_env_steps
from rlssl.experiment.spec.loading import save_spec
from rlssl.experiment.tuning.retries import last_error, moved_by
from rlssl.experiment.tuning.searchers import label_of
from rlssl.experiment.tuning.trainable import SpecTrainable
from rlssl.experiment.tuning.trial_config import point_of, trial_spec
from rlssl.ray_internals.cluster import actors_of_this_job
from rlssl.ray_internals.errors import raised_by_worker
from rlssl.ray_internals.tuning import leave_checkpoints_to_trial
from rlssl.rollouts.faults import FAULTS_KEY, LATEST_FAULT
from rlssl.run_files import (
    EFFECTIVE,
    ENV_FAULTS_FOLDER,
    EPISODES_FILE,
    RUN_JSON_FILES,
    SPEC_FILE,
    TRIAL_FILE,
)
from rlssl.system.durations import duration
from rlssl.system.files import append, replace, replace_text
from rlssl.system.json_output import readable_json
from rlssl.system.yaml_files import read_yaml

#: Seconds without a running trial after which a line explains what the run waits for.
WAITING_S = 30.0

#: Seconds between lines about failing environments.
ENV_FAULTS_PERIOD_S = 60.0

#: Seconds between progress lines if the output is not a terminal.
_LINE_PERIOD_S = 60.0

_EPISODE_HEADER = ("env_steps", "return", "length", "success")
_NUM_COLUMNS = len(_EPISODE_HEADER)

#: Keys of a result that `TrialFiles` moves from the result into files.
MOVED_KEYS = ("episodes", EFFECTIVE)


class TrialFiles(Callback):
    """Writes spec.yaml, trial.json and episodes.csv into every trial's folder.

    ``spec.yaml`` gets the settings as used with the first result, because only the trial knows
    them: some defaults depend on its environment.

    ``episodes.csv`` has one row per episode. A trial that restarts from a checkpoint repeats the
    episodes after that checkpoint, so their old rows are deleted first.
    """

    def __init__(self) -> None:
        # Trial id -> its episodes.csv, once that has been begun.
        self._episodes: dict[str, Path] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook; also called when a trial is restarted."""
        folder = trial_folder(trial)
        # Tune's own tag has the whole spec, twice in every snapshot.
        trial.set_experiment_tag(folder.name)
        spec = trial_spec(trial.config)
        # A restarted trial keeps what its last process wrote, until its first result.
        save_spec(spec, folder / SPEC_FILE, provenance(), read_effective(folder))
        point = point_of(trial.config)
        label = label_of(folder.parent, point)
        description = {"point": point, "seed": spec.seed, "variant_label": label}
        if EXPLOITS in trial.config:
            description[EXPLOITS] = trial.config[EXPLOITS]
        replace_text(folder / TRIAL_FILE, readable_json(description, indent=2))
        self._episodes.pop(trial.trial_id, None)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune's hook: moves the episodes from the result to the file."""
        # If a file cannot be written, this hook is called again with the same result.
        if EFFECTIVE in result:
            spec_file = trial_folder(trial) / SPEC_FILE
            save_spec(trial_spec(trial.config), spec_file, provenance(), result[EFFECTIVE])
        path = self._episodes.get(trial.trial_id)
        if path is None:
            path = trial_folder(trial) / EPISODES_FILE
            start_episodes_file(path, keep_until=start_of(result))
            self._episodes[trial.trial_id] = path
        if episodes := result.get("episodes"):
            append(path, _csv_text(episodes))
        for key in MOVED_KEYS:
            result.pop(key, None)


class NoStaleCopies(Callback):
    """Keeps Tune from writing old copies over rlssl's own files of a run.

    When Tune continues an experiment, it copies every JSON file of the run's folder to a temporary
    folder. With each snapshot, it copies that folder back.
    """

    def __init__(self) -> None:
        self._is_done = False

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a run that is continued copies again."""
        return {"_is_done": False}

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; the first call is before the first snapshot, and after the copies."""
        if not self._is_done and trials and trials[0].storage is not None:
            self._is_done = True
            staging = Path(trials[0].storage.experiment_driver_staging_path)
            for name in RUN_JSON_FILES:
                (staging / name).unlink(missing_ok=True)


class OwnPruning(Callback):
    """Leaves the checkpoints to the trials, which delete their old ones; Tune forgets them."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook; in a run of an earlier version, Tune would delete the old ones."""
        leave_checkpoints_to_trial(trial)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        leave_checkpoints_to_trial(trial)


class Retries(Callback):
    """Prints a line when a failed trial continues, with the cause and the checkpoint."""

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        steps, unit = newest_env_steps(trial_folder(trial)), WORDS[trial_spec(trial.config).clock]
        where = "the beginning" if steps is None else f"{steps:,} {unit}"
        if (moved := moved_by(last_error(trial))) is not None:
            words = f"left its node and continues from {where}: {moved}"
            note_fault(trial_folder(trial).parent, "drained", f"trial {trial.trial_id} {words}")
            click.echo(f"Trial {trial.trial_id} {words}.", err=True)
            return
        cause = root_cause(last_error(trial))
        note_fault(
            trial_folder(trial).parent,
            "retry",
            f"trial {trial.trial_id} lost a process ({cause}) and continued from {where}",
        )
        num = trial.run_metadata.num_failures
        # Tune does not count the loss of a node that was drained.
        tries = f"try {num} of {trial.max_failures} since its last new checkpoint"
        click.echo(
            f"Trial {trial.trial_id} lost a process ({cause}). It continues from {where}, "
            f"{tries if num else 'and its tries are not used up'}.",
            err=True,
        )


def note_failed_reset(trial: Trial, error: Exception) -> None:
    """Prints a line when a trial could not begin in a used process, with the cause."""
    words = f"could not begin in the process of an earlier trial ({root_cause(error)})"
    note_fault(trial_folder(trial).parent, "reset", f"trial {trial.trial_id} {words}")
    click.echo(f"Trial {trial.trial_id} {words}. It begins in a new process.", err=True)


class EnvFaults(Callback):
    """Prints a line about failing environments: at the first fault, then at most once a minute."""

    #: Seconds between two lines.
    period_s = ENV_FAULTS_PERIOD_S

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._told = self._last_line = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a time of this process means nothing later."""
        return {"_counts": self._counts, "_told": self._told, "_last_line": 0.0}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune's hook."""
        faults = result.get(FAULTS_KEY, {})
        self._counts[trial.trial_id] = {name: faults.get(name, 0) for name in ENV_FAULTS}
        latest = result.get(LATEST_FAULT)
        is_due = time.monotonic() - self._last_line > self.period_s or not self._last_line
        if latest is None or not is_due:
            return
        total = sum(sum(counts.values()) for counts in self._counts.values())
        if total <= self._told:
            return
        self._told, self._last_line = total, time.monotonic()
        click.echo(
            f"{fault_words(self._counts.values())} so far; the latest: {latest}. First tracebacks: "
            f"{trial_folder(trial) / ENV_FAULTS_FOLDER}",
            err=True,
        )


class Waiting(Callback):
    """Prints a line if no trial can run because no CPUs are free, as after the loss of a node."""

    #: Seconds without a running trial before the line is printed.
    after_s = WAITING_S
    #: Seconds between two looks at the trials, of which there may be hundreds.
    period_s = 1.0

    def __init__(self) -> None:
        self._since: float | None = None
        self._next_look = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a time of this process means nothing later."""
        return {"_since": None, "_next_look": 0.0}

    def cpus(self) -> tuple[float, float]:
        """Free CPUs, and all CPUs of the cluster."""
        return ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)

    def is_starting(self) -> bool:
        """Whether a trial of this run holds its CPUs, and its process is still starting."""
        return bool(actors_of_this_job(SpecTrainable.__name__))

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; called at least a few times a second."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self.period_s
        pending = [trial for trial in trials if trial.status == Trial.PENDING]
        if not pending or any(trial.status == Trial.RUNNING for trial in trials):
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > self.after_s:
            if self.is_starting():
                self._since = None
                return
            self._since = math.inf  # print the line only once
            needed = pending[0].placement_group_factory.required_resources.get("CPU", 0)
            free, total = self.cpus()
            click.echo(
                f"No trial is running: each needs {needed:g} CPUs, and {free:g} of the cluster's "
                f"{total:g} are free. Waiting.",
                err=True,
            )


def root_cause(error: BaseException | None) -> str:
    """The innermost error that Ray wrapped, in one line."""
    while error is not None and (inner := raised_by_worker(error)) is not error:
        error = inner
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0]}" if words else type(error).__name__


class ProgressBar(Callback):
    """Shows how far a single trial is: a bar on a terminal, else a line a minute."""

    def __init__(self, total: float) -> None:
        self._total = total
        self._progress: Progress | None = None
        self._next_line = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a terminal's progress bar cannot be saved."""
        return {"_total": self._total, "_progress": None, "_next_line": 0.0}

    def setup(self, **_: Any) -> None:
        """Tune's hook."""
        console = Console()
        if console.is_terminal:
            share, bar = TextColumn("{task.percentage:>3.0f}%"), BarColumn(bar_width=10)
            words = TextColumn("{task.description}")
            self._progress = Progress(share, bar, words, console=console)
            self._task = self._progress.add_task("starting", total=self._total)
            self._progress.start()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune's hook."""
        steps, words = steps_of(result), progress_words(result, self._total)
        unit = WORDS[clock_of(result)]
        if self._progress is not None:
            shown = f"{steps:,} {unit}, {words}"
            self._progress.update(self._task, completed=steps, description=shown)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_PERIOD_S
            click.echo(f"{steps:,} of {self._total:,.0f} {unit}, {words}")

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook."""
        if self._progress is not None:
            self._progress.stop()


def progress_words(result: Mapping[str, Any], total: float) -> str:
    """Speed, score and time left of a trial.

    Args:
        result: The trial's last result.
        total: Where the trial stops, on its clock.

    Example:
        >>> result = {"env_steps": 3000, "env_steps_at_start": 1000, "time_since_restore": 20.0}
        >>> progress_words({**result, "episode_return_mean": 12.34}, 10_000)
        '100/s, return 12.3, 1 min 10 s left'
        >>> progress_words({**result, "episode_return_mean": math.nan}, 3000)
        '100/s, no episode yet'
    """
    steps, score = steps_of(result), result["episode_return_mean"]
    made = steps - start_of(result)
    rate = made / max(result["time_since_restore"], 1e-9)
    has_score = math.isfinite(score)
    words = [f"{rate:,.0f}/s"]
    if has_score or clock_of(result) == ENV_STEPS:
        words.append(f"return {format_number(score)}" if has_score else "no episode yet")
    if made > 0 and steps < total < math.inf:
        words.append(f"{duration((total - steps) / rate)} left")
    return ", ".join(words)


def trial_folder(trial: Trial) -> Path:
    """The folder for the trial's files: in a local storage, else in Tune's staging area."""
    if isinstance(trial.storage.storage_filesystem, pyarrow.fs.LocalFileSystem):
        folder = Path(trial.storage.trial_fs_path)
    else:
        folder = Path(trial.local_path)
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_effective(folder: Path) -> dict[str, Any] | None:
    """The settings as used, from a trial's spec.yaml; None if they are not there yet."""
    try:
        document = read_yaml((folder / SPEC_FILE).read_bytes())
    except (OSError, yaml.YAMLError):
        return None
    used = document.get(EFFECTIVE) if isinstance(document, dict) else None
    return used if isinstance(used, dict) else None


def start_episodes_file(path: Path, *, keep_until: int) -> None:
    """Writes ``episodes.csv`` with its header and the old rows up to ``keep_until`` env steps.

    The file is replaced in one step, so that a kill leaves the old file or the new one.
    """
    rows: list[list[str]] = []
    if path.exists():
        # Damaged bytes spoil their own line only.
        lines = path.read_bytes().decode(errors="replace").splitlines()
        complete = (row for row in (line.split(",") for line in lines) if len(row) == _NUM_COLUMNS)
        rows = [row for row in complete if row[0].isdecimal() and int(row[0]) <= keep_until]
    replace(path, _csv_text([_EPISODE_HEADER, *rows]))


def _csv_text(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
