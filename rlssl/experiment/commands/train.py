"""`rlssl train`: runs one trial, on the same code path as a sweep."""

from pathlib import Path

import click

from rlssl import trust
from rlssl.clocks import ENV_STEPS, UPDATES, WORDS
from rlssl.errors import ExitCode, SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.commands.summary import finish_training
from rlssl.experiment.run_folders import (
    checkpoint_folder,
    locate,
    sweep_folder,
    trial_folder,
    trial_folders,
)
from rlssl.experiment.runs import newest_checkpoint
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.tuning.launch import launch
from rlssl.run_files import POLICY_FILE

#: Clock -> where training stops if the spec does not say it.
DEFAULT_ENDS = {ENV_STEPS: 1_000_000, UPDATES: 100_000}


def train(
    spec: Spec,
    *,
    warm_start: str | None = None,
    address: str | None = None,
    wait_for_nodes: bool = False,
    trusted: bool = False,
) -> int:
    """Trains one policy; returns the exit code.

    Args:
        spec: A spec without a search.
        warm_start: A run with one trial, a trial or a checkpoint; training starts from its newest
            weights.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to unpickle weights of a run of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If the spec cannot run; nothing was started.
        ResourceError: If the cluster or the storage cannot be used.
    """
    if spec.search or len(spec.seeds) > 1:
        raise SpecError("train runs one trial; use `rlssl sweep` for a search or several seeds.")
    announcement = ""
    if spec.end is None:
        end = DEFAULT_ENDS[spec.clock]
        words = f"{end:,} {WORDS[spec.clock]} (--stop {spec.clock}=N)"
        announcement = f"Stopping at {words}."
        spec = spec.model_copy(update={"stop": {**spec.stop, spec.clock: end}})
    weights = None
    if warm_start is not None:
        weights = find_weights(warm_start, spec.storage, trusted=trusted)
        click.echo(f"Starting from the weights of\n{weights}")
    code, folder = launch(
        spec,
        address=address,
        is_sweep=False,
        wait_for_nodes=wait_for_nodes,
        warm_start=weights,
        announcement=announcement,
    )
    if code == ExitCode.INTERRUPTED:
        return code
    unreadable = finish_training(folder)
    return code or unreadable


def find_weights(run: str, storage: str, *, trusted: bool) -> Path:
    """The newest valid checkpoint of a run that has one trial, or the given checkpoint.

    Args:
        run: The name of a run, or the folder of a run, a trial or a checkpoint.
        storage: The folder in which names are looked up.
        trusted: Whether the user trusts a run of foreign origin.

    Raises:
        SpecError: If there is no such run, it has several trials or no valid checkpoint, or it is
            not trusted.
    """
    folder = locate(run, storage, having="checkpoint")
    if trusted:
        trust.accept(sweep_folder(folder))
    given = checkpoint_folder(folder)
    trial = trial_folder(folder)
    if given is None and trial is None and (folder / POLICY_FILE).is_file():
        raise SpecError(
            f"--from '{run}' is an exported policy, which has no critic and no auxiliary losses to "
            "start from; give a run, a trial or a checkpoint."
        )
    trust.require(folder, "its checkpoints are pickles")
    if given is not None:
        return checkpoint.check(given).path
    trials = trial_folders(trial or folder)
    if len(trials) > 1:
        raise SpecError(f"--from '{run}' has {len(trials)} trials; give the folder of one.")
    return newest_checkpoint(trials[0])
