"""`rlssl resume`: continues an interrupted run from each trial's newest valid checkpoint."""

from pathlib import Path

import click
from ray.tune import Tuner

from rlssl import trust
from rlssl.errors import DEFAULT_STORAGE, ExitCode, SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.cluster.connect import start_ray
from rlssl.experiment.commands.summary import at_their_ends, finish_sweep, finish_training
from rlssl.experiment.runs import describe, locate, sweep_folder, trial_folders
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.tuning.launch import fit
from rlssl.experiment.tuning.search import continue_search
from rlssl.experiment.tuning.trainable import register
from rlssl.run_files import SWEEP_SPEC_FILE


def resume(
    run: str,
    *,
    storage: str = DEFAULT_STORAGE,
    address: str | None = None,
    trusted: bool = False,
) -> int:
    """Continues unfinished and failed trials; returns the exit code.

    Args:
        run: Folder or name of a run.
        storage: The folder in which names are looked up.
        address: Address of an existing cluster; None starts a local one.
        trusted: Allows to unpickle a run of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If there is nothing to resume, a trial has no valid checkpoint left, or the run
            is of foreign origin and not trusted.
        ResourceError: If the cluster cannot be used.
    """
    folder = sweep_folder(locate(run, storage))
    if trusted:
        trust.accept(folder)
    description = describe(folder)
    if not Tuner.can_restore(str(folder)):
        raise SpecError(f"{folder} stopped before its trials began; start the run again.")
    if at_their_ends(folder):
        click.echo(
            f"{folder} has finished. To train further from its weights: rlssl train ... --from RUN"
        )
        return ExitCode.OK
    say_where_trials_stand(folder)
    trust.require(folder, "its checkpoints are pickles")
    spec = load_spec(folder / SWEEP_SPEC_FILE)
    start_ray(spec, address, folder)
    tuner = Tuner.restore(
        str(folder), trainable=register(), resume_unfinished=True, resume_errored=True
    )
    continue_search(tuner, spec, folder)
    code = fit(tuner, folder)
    unreadable: int = ExitCode.OK
    if not description["is_sweep"]:
        unreadable = finish_training(folder)
    elif code != ExitCode.INTERRUPTED:
        unreadable = finish_sweep(folder)
    return code or unreadable


def say_where_trials_stand(folder: Path) -> None:
    """Prints the checkpoint from which each trial continues; damaged checkpoints are logged.

    Raises:
        SpecError: If a trial has checkpoints, and none of them is valid.
    """
    for trial in trial_folders(folder):
        found = checkpoint.newest_or_none_yet(trial)
        if found is None:
            click.echo(f"{trial.name} has no checkpoint yet and starts from the beginning.")
        else:
            click.echo(f"Continuing after {found.env_steps:,} env steps from")
            click.echo(str(found.path))
