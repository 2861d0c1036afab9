"""Starts Ray and Tune for a spec, and reports how the run ended."""

import logging
import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import click
from ray.tune import (
    Callback,
    CheckpointConfig,
    FailureConfig,
    ResultGrid,
    RunConfig,
    Tuner,
)
from ray.tune.experiment import Trial
from ray.tune.result import EXPR_ERROR_FILE

from rlssl import trust
from rlssl.clocks import WORDS
from rlssl.errors import ExitCode, ResourceError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.cluster.connect import start_ray
from rlssl.experiment.cluster.node_check import expect_of_nodes
from rlssl.experiment.fault_log import write_waiting_notes
from rlssl.experiment.provenance import provenance
from rlssl.experiment.remote.trial_uploads import RUN_URI_KEY
from rlssl.experiment.remote.uploads import RunUploads
from rlssl.experiment.run_folders import read_description
from rlssl.experiment.run_record import new_run, record_state, write_description
from rlssl.experiment.spec.loading import save_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_checks import has_population
from rlssl.experiment.spec.search_space import adapts
from rlssl.experiment.start_weights.files import lines, write_weights
from rlssl.experiment.start_weights.sources import find_sources, with_encoder_of
from rlssl.experiment.tracking.gauges import Gauges
from rlssl.experiment.trial_check import check_sweep, largest_replay, taken_by
from rlssl.experiment.tuning.callbacks import (
    EnvFaults,
    NoStaleCopies,
    OwnPruning,
    ProgressBar,
    Retries,
    Waiting,
    note_failed_reset,
)
from rlssl.experiment.tuning.interruption import Interruption
from rlssl.experiment.tuning.loggers import trial_loggers
from rlssl.experiment.tuning.patient_files import PatientFiles
from rlssl.experiment.tuning.recovery import (
    Trials,
    damaged_files,
    known_trials,
    rebuilt,
    remove_tune_state,
    set_aside,
)
from rlssl.experiment.tuning.retries import Quarantine, only_dead_processes_retried
from rlssl.experiment.tuning.search import (
    begin_study,
    check_study,
    continue_search,
    draw_and_list_points,
    progress_of,
    trial_folder_name,
    tune_config,
)
from rlssl.experiment.tuning.searchers import trial_key
from rlssl.experiment.tuning.trackers import trial_trackers
from rlssl.experiment.tuning.trainable import register
from rlssl.experiment.tuning.trial_config import (
    REGISTRATIONS_KEY,
    REPLAY_BYTES_KEY,
    SPEC_KEY,
    TRAINS_ON_KEY,
    spec_for_trials,
)
from rlssl.experiment.tuning.watchdog import SilenceTimer
from rlssl.plugins import with_line
from rlssl.ray_internals.loggers import SYNC
from rlssl.ray_internals.tuning import (
    controller_given_to,
    results_not_analyzed,
    run_config_of,
    trials_of,
)
from rlssl.ray_internals.used_processes import begin_trials_in_order, failed_resets_repeated
from rlssl.registry import local_registrations
from rlssl.run_files import SWEEP_SPEC_FILE
from rlssl.system.stores.objects import require_rights
from rlssl.system.stores.places import local_folder, parse_place, place_of_folder

#: Of more trials, the checkpoints are not listed.
MOST_LISTED = 4


def launch(
    spec: Spec,
    *,
    address: str | None,
    is_sweep: bool,
    wait_for_nodes: bool = False,
    trusted: bool = False,
    announcement: str = "",
    prepare: Callable[[Path], None] = lambda folder: None,
) -> tuple[int, Path]:
    """Runs every trial of ``spec``; returns the exit code and the folder of the results.

    Args:
        spec: From ``load_spec``.
        address: Address of an existing cluster; None starts a local one.
        is_sweep: Whether to show a table instead of a progress bar.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to unpickle weights of a run of foreign origin; see `rlssl.trust`.
        announcement: A line to print after all checks have passed.
        prepare: Writes files of the caller into the run's folder, before anything starts.

    Raises:
        SpecError: If the environment fails its preflight; nothing was started.
        ResourceError: If the cluster or the storage cannot be used.
    """
    sources = find_sources(spec, trusted=trusted)
    spec, taken_over = with_encoder_of(spec, sources)
    checked = check_sweep(spec, sources, address=address)
    replay_bytes, taken = largest_replay(checked), taken_by(checked)
    for line in (*lines(sources, taken), taken_over):
        click.echo(line, nl=bool(line))
    earlier = check_study(spec)
    with new_run(Path(storage_path(spec.storage)), spec.name) as folder:
        begin_study(spec, folder, earlier)
        prepare(folder)
        write_weights(folder, sources, taken)
        start_ray(
            spec,
            address,
            folder.parent,
            replay_bytes=replay_bytes,
            wait_for_nodes=wait_for_nodes,
        )
        if announcement:
            click.echo(announcement)
        trust.record(folder)
        save_spec(spec, folder / SWEEP_SPEC_FILE, provenance())
        write_description(folder, spec.name, is_sweep, replay_bytes)
        trials = Trials(draw_and_list_points(spec, folder))
        code = fit(_tuner(spec, trials, folder, is_sweep), folder)
        record_state(folder, code)
        return code, folder


def restored_tuner(spec: Spec, folder: Path, is_sweep: bool) -> Tuner:
    """The Tuner of a run that has stopped; it continues unfinished and failed trials.

    If Tune's own state is damaged or lost, other files of the run replace it. Tune saves callbacks
    with a run. Those of today replace them.
    """
    if place_of_folder(folder) is not None:
        return rebuilt_tuner(spec, folder, is_sweep)  # Tune's own state is not on the store
    if adapts(spec) or has_population(spec):
        # Tune saves its searcher and its trials at different moments, and both may be older than
        # the run's own files. From these, no point is lost, and none is suggested twice.
        return rebuilt_tuner(spec, folder, is_sweep)
    if damaged := damaged_files(folder):
        set_aside(folder, damaged)
        return _tuner(spec, rebuilt(spec, folder), folder, is_sweep)
    tuner = Tuner.restore(
        str(folder), trainable=register(), resume_unfinished=True, resume_errored=True
    )
    run_config = run_config_of(tuner)
    run_config.checkpoint_config = CheckpointConfig(checkpoint_at_end=True)
    for key, value in output(spec, is_sweep, folder).items():
        setattr(run_config, key, value)
    # Trials that began after Tune last saved its state are new to Tune. They keep their folders.
    known = {trial_key(one.point, one.seed): one.folder.name for one in known_trials(folder)}
    continue_search(tuner, spec, folder, known)
    return tuner


def rebuilt_tuner(spec: Spec, folder: Path, is_sweep: bool) -> Tuner:
    """A new Tuner for a run, which continues from the run's own files instead of Tune's."""
    remove_tune_state(folder)
    return _tuner(spec, rebuilt(spec, folder), folder, is_sweep)


def _tuner(spec: Spec, trials: Trials, folder: Path, is_sweep: bool) -> Tuner:
    registrations, place = local_registrations(), place_of_folder(folder)
    replay_bytes = read_description(folder).get(REPLAY_BYTES_KEY, 0)
    return Tuner(
        register(),
        param_space={
            SPEC_KEY: spec_for_trials(spec),
            **({RUN_URI_KEY: place.uri} if place is not None else {}),
            **({REGISTRATIONS_KEY: registrations} if registrations else {}),
            **({REPLAY_BYTES_KEY: replay_bytes} if replay_bytes else {}),
            **({TRAINS_ON_KEY: trials.trains_on_from} if trials.trains_on_from else {}),
        },
        tune_config=tune_config(
            spec, folder, trials.points, ended=trials.ended, folders=trials.folders
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            stop=dict(spec.stop),
            # The trials delete their old checkpoints.
            checkpoint_config=CheckpointConfig(checkpoint_at_end=True),
            failure_config=FailureConfig(max_failures=spec.max_failures),
            **output(spec, is_sweep, folder, num_ended_before=len(trials.ended)),
        ),
    )


def fit(tuner: Tuner, folder: Path) -> int:
    """Runs Tune until it ends, prints what failed and where, and returns the exit code."""
    # `_explain_failures` prints the failures, the environment's own words first.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # `PatientFiles` says what a full disk means for the run; Tune copies its own state again later.
    logging.getLogger(SYNC).setLevel(logging.CRITICAL)
    expect_of_nodes(folder)
    callbacks = run_config_of(tuner).callbacks or []
    interruption = next(one for one in callbacks if isinstance(one, Interruption))
    quarantine = next(one for one in callbacks if isinstance(one, Quarantine))
    uploads = next(one for one in callbacks if isinstance(one, RunUploads))
    with (
        uploads.running(),
        only_dead_processes_retried(),
        controller_given_to(quarantine.watch),
        controller_given_to(begin_trials_in_order),
        failed_resets_repeated(note_failed_reset),
        results_not_analyzed(),
        interruption.handles_signals(),
    ):
        grid = tuner.fit()
        write_waiting_notes()
        trials = trials_of(grid)
        failed = [trial for trial in trials if trial.status == Trial.ERROR]
        if not all(trial.status == Trial.ERROR or _reached_its_end(trial) for trial in trials):
            _explain_interruption(trials, folder)
            return ExitCode.INTERRUPTED
    _explain_failures(grid)
    return ExitCode.TRIAL_FAILED if failed else ExitCode.OK


def output(
    spec: Spec, is_sweep: bool, folder: Path, *, num_ended_before: int = 0
) -> dict[str, Any]:
    """The callbacks, and the arguments of RunConfig that control what is printed."""
    interruption = Interruption(spec.checkpoint.interrupt_s, folder)
    files = PatientFiles([*trial_loggers(spec), *trial_trackers(spec)])
    own_files = [files, NoStaleCopies(), OwnPruning()]
    watchers = [Retries(), EnvFaults(), Waiting(), SilenceTimer(), Quarantine()]
    uploads = RunUploads(folder, spec.checkpoint.keep)
    callbacks: list[Callback] = [*own_files, *watchers, interruption, uploads, Gauges(folder.name)]
    if not is_sweep:
        bar = ProgressBar(math.inf if spec.end is None else spec.end)
        return {"verbose": 0, "callbacks": [*callbacks, bar]}
    return {"verbose": 0, "callbacks": [*callbacks, progress_of(spec, num_ended_before)]}


def storage_path(storage: str) -> str:
    """The storage folder as an absolute path, created if missing and checked to be writable.

    Of a URI, the folder of the local copy.

    Raises:
        SpecError: If the storage is a URI that rlssl does not know.
        ResourceError: If rlssl cannot write there.
    """
    place = parse_place(storage)
    if place is not None:
        require_rights(place)
    path = local_folder(storage).resolve()
    try:
        if place is not None:
            place.create_folder()
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"cannot write to storage '{storage}': {error}.") from error
    return str(path)


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
            click.echo(f"trial failed: {with_line(last_line, str(result.error))}", err=True)
            click.echo(str(Path(result.path, EXPR_ERROR_FILE)), err=True)


def _explain_interruption(trials: Sequence[Trial], folder: Path) -> None:
    click.echo("Interrupted. Newest checkpoints:", err=True)
    newest = [
        (trial, checkpoint.newest_valid(folder / Path(trial.path).name) if trial.path else None)
        for trial in trials
    ]
    if len(newest) > MOST_LISTED:
        click.echo(where_many_stand([found for _, found in newest]), err=True)
    else:
        for trial, found in newest:
            click.echo(str(found.path) if found else f"{trial}: none yet", err=True)
    place = place_of_folder(folder)
    run = folder if place is None else f"'{place.uri}'"
    click.echo(f"Continue with: rlssl resume {run}", err=True)


def where_many_stand(newest: Collection[checkpoint.CheckpointInfo | None]) -> str:
    """The newest checkpoints of many trials, each None if there is none yet, in one line."""
    env_steps = [found.env_steps for found in newest if found is not None]
    unit = next((WORDS[found.clock] for found in newest if found is not None), "")
    stand = f", after {min(env_steps):,} to {max(env_steps):,} {unit}" if env_steps else ""
    return f"{len(env_steps)} of {len(newest)} trials have a checkpoint{stand}."
