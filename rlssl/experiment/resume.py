"""`rlssl resume`: continues what was interrupted, from every trial's newest valid checkpoint."""

import click
from ray.tune import Tuner

from rlssl.errors import DEFAULT_STORAGE, ExitCode, SpecError
from rlssl.experiment.finish import at_their_ends, finish_sweep, finish_training
from rlssl.experiment.launch import SWEEP_SPEC_FILE, fit, start_ray
from rlssl.experiment.runs import describe, locate, sweep_folder
from rlssl.experiment.spec import load_spec
from rlssl.experiment.trial import TrialRunner


def resume(run: str, *, storage: str = DEFAULT_STORAGE, address: str | None = None) -> int:
    """Continues unfinished and failed trials; returns the exit code.

    Args:
        run: Folder or name of a run.
        storage: Where names are looked up.
        address: Of an existing cluster; None: a local one.

    Raises:
        SpecError: If there is nothing to resume from.
        ResourceError: If the cluster cannot be used.
    """
    folder = sweep_folder(locate(run, storage))
    description = describe(folder)
    if not Tuner.can_restore(str(folder)):
        raise SpecError(f"{folder} stopped before its trials began; start it again.")
    if at_their_ends(folder):
        click.echo(f"{folder} is at its end; to go on from its weights: rlssl train ... --from RUN")
        return ExitCode.OK
    start_ray(load_spec(folder / SWEEP_SPEC_FILE), address)
    tuner = Tuner.restore(
        str(folder), trainable=TrialRunner, resume_unfinished=True, resume_errored=True
    )
    code = fit(tuner, folder)
    if not description["is_sweep"]:
        finish_training(folder)
    elif code != ExitCode.INTERRUPTED:
        finish_sweep(folder)
    return code
