"""Starts Ray and Tune for a spec, and reports how the run ended."""

import json
import logging
import math
import os
import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from ray import tune
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.tune import CheckpointConfig, FailureConfig, ResultGrid, RunConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.result import EXPR_ERROR_FILE

from rlssl import trust
from rlssl.connectors.frame_stack import stacked_space
from rlssl.environments.preflight import preflight
from rlssl.errors import ExitCode, ResourceError, SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.checkpoints.warm_start import check_fits
from rlssl.experiment.cluster.connect import start_ray
from rlssl.experiment.provenance import provenance
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import at_point, check_points, resolved_dict, save_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import (
    MAX_COMBINATIONS_CHECKED,
    draw_points,
    has_random,
    points_to_check,
)
from rlssl.experiment.tuning.callbacks import ProgressBar, Retries, Waiting
from rlssl.experiment.tuning.loggers import trial_loggers
from rlssl.experiment.tuning.retries import only_dead_processes_retried
from rlssl.experiment.tuning.search import METRIC, trial_folder_name, tune_config
from rlssl.experiment.tuning.searchers import write_points
from rlssl.experiment.tuning.trainable import (
    REGISTRATIONS_KEY,
    SEED_KEY,
    SPEC_KEY,
    WARM_START_KEY,
    register,
)
from rlssl.ray_internals.tuning import trials_of
from rlssl.registry import local_registrations
from rlssl.run_files import RUN_FILE, SWEEP_SPEC_FILE


def launch(
    spec: Spec,
    *,
    address: str | None,
    is_sweep: bool,
    warm_start: Path | None = None,
    announcement: str = "",
) -> tuple[int, Path]:
    """Runs every trial of ``spec``; returns the exit code and the folder of the results.

    Args:
        spec: From ``load_spec``.
        address: Address of an existing cluster; None starts a local one.
        is_sweep: Whether to show a table instead of a progress bar.
        warm_start: A checkpoint; every trial starts from its weights.
        announcement: A line to print after all checks have passed.

    Raises:
        SpecError: If the environment fails its preflight; nothing was started.
        ResourceError: If the cluster or the storage cannot be used.
    """
    points = draw_points(spec)
    if has_random(spec):
        check_points(spec, points[:MAX_COMBINATIONS_CHECKED])
    for point in points_to_check(spec) if spec.search else [{}]:
        module = check_trial(at_point(spec, point, spec.seeds[0]))
        if warm_start is not None:
            check_fits(warm_start, module, spec)
    registrations = local_registrations()
    storage = storage_path(spec.storage)
    name = free_name(storage, spec.name)
    start_ray(spec, address, Path(storage))
    if announcement:
        click.echo(announcement)
    folder = Path(storage, name)
    _describe(spec, folder, is_sweep)
    search_seed = spec.searcher.random.seed if spec.searcher else 0
    write_points(folder, points, search_seed=search_seed)
    tuner = Tuner(
        register(),
        param_space={
            SPEC_KEY: resolved_dict(spec),
            **({WARM_START_KEY: str(warm_start)} if warm_start else {}),
            **({REGISTRATIONS_KEY: registrations} if registrations else {}),
        },
        tune_config=tune_config(spec, folder, points),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            stop=dict(spec.stop),
            checkpoint_config=CheckpointConfig(
                num_to_keep=spec.checkpoint.keep, checkpoint_at_end=True
            ),
            failure_config=FailureConfig(max_failures=spec.max_failures),
            **output(spec, is_sweep),
        ),
    )
    return fit(tuner, folder), folder


def check_trial(spec: Spec) -> RLModule:
    """Builds the environment, networks and auxiliary losses of a trial once.

    Returns:
        The untrained RLModule.

    Raises:
        SpecError: If one of them cannot be built; repeats its error. Nothing was started.
    """
    config = build_config(spec)
    spaces = preflight(config.env_settings, config.env_step_timeout_s, config.vectorize)
    config.adapt_to(spaces)
    config.check_training()
    stacked = stacked_space(
        spaces.observation_space, config.frame_stack, config.network["encoder_config"]
    )
    try:
        return config.get_rl_module_spec(
            spaces={DEFAULT_MODULE_ID: (stacked, spaces.action_space)}, inference_only=False
        ).build()
    except Exception as error:
        # A SpecError explains itself; other errors need their type to be understood.
        words = str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"
        encoder = config.network["encoder"]
        raise SpecError(
            f"model.encoder={encoder!r} or auxiliary={list(spec.auxiliary)} does not fit "
            f"{spec.env['id']}: {words}"
        ) from error


def fit(tuner: Tuner, folder: Path) -> int:
    """Runs Tune until it ends, prints what failed and where, and returns the exit code."""
    # Cluster schedulers send SIGTERM. It is treated as Ctrl-C, so that the run leaves checkpoints
    # and prints how to resume.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    # `_explain_failures` prints the failures, the environment's own words first.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with only_dead_processes_retried():
        grid = tuner.fit()
    trials = trials_of(grid)
    failed = [trial for trial in trials if trial.status == Trial.ERROR]
    if not all(trial.status == Trial.ERROR or _reached_its_end(trial) for trial in trials):
        _explain_interruption(trials, folder)
        return ExitCode.INTERRUPTED
    _explain_failures(grid)
    return ExitCode.TRIAL_FAILED if failed else ExitCode.OK


def output(spec: Spec, is_sweep: bool) -> dict[str, Any]:
    """The arguments of RunConfig that control what is printed."""
    if not is_sweep:
        bar = ProgressBar(spec.stop.get("env_steps", math.inf))
        return {"verbose": 0, "callbacks": [*trial_loggers(spec), Retries(), Waiting(), bar]}
    table = tune.CLIReporter(
        metric_columns={METRIC: "return", "success_rate": "success", "env_steps": "env_steps"},
        parameter_columns=[*spec.search, SEED_KEY],
        max_report_frequency=15,
        max_column_length=40,
    )
    return {
        "verbose": 1,
        "callbacks": [*trial_loggers(spec), Retries(), Waiting()],
        "progress_reporter": table,
    }


def storage_path(storage: str) -> str:
    """The storage folder as an absolute path, created if missing and checked to be writable.

    Raises:
        SpecError: If the storage is a URI.
        ResourceError: If rlssl cannot write there.
    """
    if "://" in storage:
        raise SpecError(f"storage '{storage}': URIs are not supported yet; give a folder.")
    path = Path(storage).expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"cannot write to storage '{storage}': {error}.") from error
    return str(path)


def free_name(storage: str, name: str) -> str:
    """``name``; with a timestamp appended if the storage already holds a run of this name."""
    if not Path(storage, name).exists():
        return name
    return f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _describe(spec: Spec, folder: Path, is_sweep: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    trust.record(folder)
    save_spec(spec, folder / SWEEP_SPEC_FILE, provenance())
    # `resume` and `evaluate` may run in another folder, and must find plug-ins beside the spec.
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    by_script = sorted(name for table in local_registrations().values() for name in table)
    run = {"is_sweep": is_sweep, "python_path": paths, "registered_by_script": by_script}
    temporary = folder / f"{RUN_FILE}.tmp"
    temporary.write_text(json.dumps(run, indent=2))
    temporary.replace(folder / RUN_FILE)


def _folder_name(trial: Trial) -> str:
    """The name under which runs of earlier versions saved `trial_folder_name`."""
    return trial_folder_name(trial)


def _reached_its_end(trial: Trial) -> bool:
    """Whether a stop criterion or the scheduler ended the trial.

    The status does not tell: an interrupt also sets it to TERMINATED.
    """
    return bool(trial.last_result and trial.last_result.get("done"))


def _explain_failures(grid: ResultGrid) -> None:
    for result in grid:
        if result.error is not None:
            last_line = str(result.error).strip().splitlines()[-1]
            click.echo(f"trial failed: {last_line}", err=True)
            click.echo(str(Path(result.path, EXPR_ERROR_FILE)), err=True)


def _explain_interruption(trials: Sequence[Trial], folder: Path) -> None:
    click.echo("Interrupted. Newest checkpoints:", err=True)
    for trial in trials:
        found = checkpoint.newest_valid(folder / Path(trial.path).name) if trial.path else None
        click.echo(str(found.path) if found else f"{trial}: none yet", err=True)
    click.echo(f"Continue with: rlssl resume {folder}", err=True)
