"""`rlssl resume`: continues an interrupted run from each trial's newest valid checkpoint."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from rlssl import trust
from rlssl.clocks import WORDS
from rlssl.errors import DEFAULT_STORAGE, ExitCode, ResourceError, SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.cluster.connect import start_ray
from rlssl.experiment.commands.confirm import confirm_if_asked
from rlssl.experiment.commands.summary import at_their_ends, summarize
from rlssl.experiment.fault_log import note_fault
from rlssl.experiment.lock import held, refuse_if_running
from rlssl.experiment.provenance import provenance
from rlssl.experiment.remote.fetch import fetch_checkpoints
from rlssl.experiment.remote.uploads import send_results
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.experiment.run_record import record_resumed, record_state
from rlssl.experiment.runs import describe
from rlssl.experiment.spec.loading import load_spec, save_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.tracking.checks import check_trackers
from rlssl.experiment.tuning.launch import (
    MOST_LISTED,
    fit,
    rebuilt_tuner,
    restored_tuner,
    where_many_stand,
)
from rlssl.experiment.tuning.recovery import can_continue, has_unstarted
from rlssl.experiment.tuning.trial_config import REPLAY_BYTES_KEY, TRAINS_ON_KEY
from rlssl.run_files import SWEEP_SPEC_FILE, TRIAL_FILE
from rlssl.system.stores.places import place_of_folder

#: State of a run before it is resumed -> why it is resumed.
_REASONS = {
    "running": "the process of the run had been killed",
    "interrupted": "it had been interrupted",
    "failed": "a trial had failed",
}


def resume(
    run: str,
    *,
    storage: str = DEFAULT_STORAGE,
    address: str | None = None,
    wait_for_nodes: bool = False,
    trusted: bool = False,
    stops: Sequence[str] = (),
) -> int:
    """Continues unfinished and failed trials; returns the exit code.

    Args:
        run: Name of a run, or any path that it has printed.
        storage: The folder in which names are looked up.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to unpickle a run of foreign origin; see `rlssl.trust`.
        stops: Texts "metric=value": new ends of the trials; finished trials train further.

    Raises:
        SpecError: If there is nothing to resume, a trial has no valid checkpoint left, or the run
            is of foreign origin and not trusted.
        ResourceError: If the cluster cannot be used, or another process runs the run.
    """
    folder = sweep_folder(locate(run, storage))
    if trusted:
        trust.accept(folder)
    description = describe(folder)
    with _refusal_noted(folder):
        refuse_if_running(folder)
    if not can_continue(folder):
        raise SpecError(f"{folder} stopped before its trials began; start the run again.")
    # Before anything of the run is imported: its spec names plug-ins.
    trust.require(folder, "its checkpoints are pickles")
    spec = load_spec(folder / SWEEP_SPEC_FILE)
    fetch_checkpoints_of(folder)
    confirm = functools.partial(
        confirm_if_asked, folder, spec, address=address, wait_for_nodes=wait_for_nodes
    )
    if stops:
        return train_further(folder, spec, stops, address=address, wait_for_nodes=wait_for_nodes)
    if at_their_ends(folder) and not has_unstarted(spec, folder):
        click.echo(
            f"{folder} has finished. To train it further: rlssl resume {run} --stop env_steps=N. "
            f"To start a new run from its weights: rlssl train ALGO ENV --from {run}"
        )
        unsent = send_results(folder, spec.checkpoint.keep)
        return confirm() or unsent
    check_trackers(spec)
    with contextlib.ExitStack() as stack:
        with _refusal_noted(folder):
            stack.enter_context(held(folder))
        say_where_trials_stand(folder)
        replay_bytes = description.get(REPLAY_BYTES_KEY, 0)
        start_ray(spec, address, folder, replay_bytes=replay_bytes, wait_for_nodes=wait_for_nodes)
        note_fault(folder, "resumed", _REASONS.get(str(description.get("state")), "it had stopped"))
        record_resumed(folder)
        code = fit(restored_tuner(spec, folder, description["is_sweep"]), folder)
        record_state(folder, code)
    if code == ExitCode.INTERRUPTED:
        return code
    unreadable = summarize(folder, is_sweep=description["is_sweep"])
    unconfirmed = confirm()
    return code or unreadable or unconfirmed


def fetch_checkpoints_of(folder: Path) -> None:
    """Fetches the newest checkpoint of each trial, if the run is on an object store."""
    place = place_of_folder(folder)
    if place is not None:
        fetch_checkpoints(folder, place)


@contextlib.contextmanager
def _refusal_noted(folder: Path) -> Iterator[None]:
    try:
        yield
    except ResourceError as error:
        note_fault(folder, "refused", str(error))
        raise


def train_further(
    folder: Path,
    spec: Spec,
    stops: Sequence[str],
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
) -> int:
    """Gives the trials of a run a later end; returns the exit code.

    Points that the scheduler has stopped stay stopped.

    Args:
        folder: The folder of a run that no process runs.
        spec: The spec of the run.
        stops: Texts "metric=value".
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.

    Raises:
        SpecError: If the new end is not later.
    """
    before = spec.stop[spec.clock]
    longer = load_spec(folder / SWEEP_SPEC_FILE, [f"stop.{text}" for text in stops])
    if longer.stop[spec.clock] <= before:
        raise SpecError(
            f"--stop {spec.clock}={longer.stop[spec.clock]}: the trials of {folder.name} train to "
            f"{before} {WORDS[spec.clock]} already; give a larger number."
        )
    description = describe(folder)
    check_trackers(longer)
    with held(folder):
        say_where_trials_stand(folder)
        replay_bytes = description.get(REPLAY_BYTES_KEY, 0)
        start_ray(longer, address, folder, replay_bytes=replay_bytes, wait_for_nodes=wait_for_nodes)
        earlier = description.get(TRAINS_ON_KEY, before)
        record_resumed(folder, **{TRAINS_ON_KEY: min(earlier, before)})
        save_spec(longer, folder / SWEEP_SPEC_FILE, provenance())
        code = fit(rebuilt_tuner(longer, folder, description["is_sweep"]), folder)
        record_state(folder, code)
    if code == ExitCode.INTERRUPTED:
        return code
    unreadable = summarize(folder, is_sweep=description["is_sweep"])
    unconfirmed = confirm_if_asked(folder, longer, address=address, wait_for_nodes=wait_for_nodes)
    return code or unreadable or unconfirmed


def say_where_trials_stand(folder: Path) -> None:
    """Prints the checkpoint of each trial, or of many trials the range of env steps.

    Damaged checkpoints are logged.

    Raises:
        SpecError: If a trial has checkpoints, and none of them is valid.
    """
    trials = sorted(path.parent for path in folder.glob(f"*/{TRIAL_FILE}"))
    newest = {trial.name: checkpoint.newest_or_none_yet(trial) for trial in trials}
    if len(trials) > MOST_LISTED:
        click.echo(where_many_stand(newest.values()))
        return
    for name, found in newest.items():
        if found is None:
            click.echo(f"{name} has no checkpoint yet and starts from the beginning.")
        else:
            click.echo(f"Continuing after {found.words} from")
            click.echo(str(found.path))
