"""`rlssl train`: one trial, through the same path as a sweep's."""

import click

from rlssl.errors import SpecError
from rlssl.experiment.finish import finish_training
from rlssl.experiment.launch import launch
from rlssl.experiment.runs import locate, newest_checkpoint, trial_folders
from rlssl.experiment.schema import Spec

#: Where training stops unless told.
DEFAULT_ENV_STEPS = 1_000_000


def train(spec: Spec, *, warm_start: str | None = None, address: str | None = None) -> int:
    """Trains one policy; returns the exit code.

    Args:
        spec: Without a search.
        warm_start: A run with one trial, whose newest weights training starts from.
        address: Of an existing cluster; None: a local one.

    Raises:
        SpecError: If something is wrong before anything started.
        ResourceError: If the cluster or the storage cannot be used.
    """
    if spec.search or len(spec.seeds) > 1:
        raise SpecError("train runs one trial; use `rlssl sweep` for a search or several seeds.")
    if "env_steps" not in spec.stop:
        click.echo(f"Stopping at {DEFAULT_ENV_STEPS:,} env steps (--stop env_steps=N).")
        spec = spec.model_copy(update={"stop": {**spec.stop, "env_steps": DEFAULT_ENV_STEPS}})
    weights = None
    if warm_start is not None:
        trials = trial_folders(locate(warm_start, spec.storage))
        if len(trials) > 1:
            raise SpecError(f"--from '{warm_start}' has {len(trials)} trials; name one's folder.")
        weights = newest_checkpoint(trials[0])
    code, folder = launch(spec, address=address, is_sweep=False, warm_start=weights)
    finish_training(folder)
    return code
