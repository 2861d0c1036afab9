"""Reads the description of a run, and loads its policies.

`rlssl.load_policy` lives here, so this module imports neither Tune's launch nor the cluster.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlssl import trust
from rlssl.errors import DEFAULT_STORAGE, SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.run_folders import (
    checkpoint_folder,
    last_result,
    locate,
    sweep_folder,
    trial_folders,
)
from rlssl.plugins import add_to_import_path
from rlssl.policy import Policy
from rlssl.registry import local_registrations
from rlssl.run_files import ERROR_FILE, MANIFEST, POLICY_FILE, POLICY_FOLDER, RUN_FILE


def describe(folder: Path) -> dict[str, Any]:
    """Reads the description of a run; makes the plug-ins of a trusted run importable.

    Raises:
        SpecError: If the folder is not a run's folder, or if the run needs names that only its
            script registered.
    """
    if not (folder / RUN_FILE).is_file():
        raise SpecError(f"{folder} is not the folder of a run: it has no {RUN_FILE}.")
    try:
        run: dict[str, Any] = json.loads((folder / RUN_FILE).read_bytes())
        paths, registered = run["python_path"], run["registered_by_script"]
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{folder / RUN_FILE} is damaged: {error}.") from error
    if trust.is_trusted(folder):
        add_to_import_path(paths)
    _require_registrations(registered)
    return run


def _require_registrations(names: Sequence[str]) -> None:
    known = {name for table in local_registrations().values() for name in table}
    if missing := [name for name in names if name not in known]:
        raise SpecError(
            f"{missing} were registered by the script that started the run; move the registration "
            "to a module, say my_plugin.py, name it under `plugins:`, and train again."
        )


def policy_folders(folder: Path) -> list[Path]:
    """The newest valid policy of each trial; of a checkpoint or an export its own policy.

    Args:
        folder: From `rlssl.experiment.run_folders.locate`.

    Raises:
        SpecError: If a trial has no valid checkpoint, or its checkpoint holds no policy.
    """
    policies, skipped = usable_policy_folders(folder)
    if skipped:
        raise SpecError(skipped[0])
    return policies


def usable_policy_folders(folder: Path) -> tuple[list[Path], list[str]]:
    """As `policy_folders`, without the trials that have no valid checkpoint.

    Args:
        folder: From `rlssl.experiment.run_folders.locate`.

    Returns:
        The policies, and for each trial that is left out a line that says why.

    Raises:
        SpecError: If no trial has a valid checkpoint, or a checkpoint holds no policy.
    """
    run, skipped = sweep_folder(folder), []
    if (folder / POLICY_FILE).is_file():
        if checkpoint_folder(folder) is not None and (run / RUN_FILE).is_file():
            describe(run)
        return [folder], []
    if (folder / MANIFEST).is_file():
        if (run / RUN_FILE).is_file():
            describe(run)
        checkpoints = [checkpoint.check(folder).path]
    else:
        describe(run)
        checkpoints = []
        for trial in trial_folders(folder):
            try:
                checkpoints.append(newest_checkpoint(trial))
            except SpecError as error:
                skipped.append(str(error))
        if not checkpoints:
            raise SpecError("\n".join(skipped))
    policies = [path / POLICY_FOLDER for path in checkpoints]
    if missing := [str(policy) for policy in policies if not policy.is_dir()]:
        raise SpecError(
            f"{missing[0]} does not exist: a run with connectors.env_to_module saves no policy, "
            "because the policy needs these connectors to act."
        )
    return policies, skipped


def newest_checkpoint(trial: Path) -> Path:
    """The folder of a trial's newest valid checkpoint.

    Raises:
        SpecError: If the trial has no valid checkpoint.
    """
    found = checkpoint.newest_valid(trial)
    if found is None:
        raise SpecError(f"{trial} has no valid checkpoint: {_why_none(trial)}")
    return found.path


def _why_none(trial: Path) -> str:
    if (trial / ERROR_FILE).is_file():
        return f"it failed before its first one; see {ERROR_FILE} there."
    if any(trial.glob(f"*/{MANIFEST}")):
        return "all are damaged."
    if last_result(trial) is None:
        return "it has no result yet."
    return "it has not saved one yet; checkpoint.every_env_steps says how often it does."


def single_policy_folder(folder: Path) -> Path:
    """The policy folder of a run with one trial, a trial, a checkpoint or an export.

    Raises:
        SpecError: If the run has several trials; lists them.
    """
    folders = policy_folders(folder)
    if len(folders) > 1:
        names = "\n".join(str(policy.parent.parent) for policy in folders)
        raise SpecError(f"{folder} has several trials; give the folder of one:\n{names}")
    return folders[0]


def load_policy(
    run_or_export: str | Path, *, storage: str = DEFAULT_STORAGE, trusted: bool = False
) -> Policy:
    """Loads a trained policy: ``policy.act(observation, explore=False)``.

    It reads only safetensors and JSON files; it executes nothing that they contain.

    Args:
        run_or_export: The folder or name of a run with one trial, or the folder of a trial, of a
            checkpoint, or of an export. Of several runs with one name, the newest run with a
            policy is taken. Or a policy that comes with rlssl: ``zoo/ppo/CartPole-v1``.
        storage: The folder in which names are looked up.
        trusted: Imports the plug-ins named by a policy of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If there is no such run, or the run has no valid checkpoint.

    Example:
        The first lines need a run, as ``rlssl train ppo CartPole-v1`` makes one.

        >>> policy = load_policy("ppo-CartPole-v1")  # doctest: +SKIP
        >>> policy.act(observation, explore=False)  # doctest: +SKIP
        1
        >>> load_policy("no-such-run", storage="/nowhere")
        Traceback (most recent call last):
        rlssl.errors.SpecError: no run 'no-such-run': it is neither a folder nor the name of a run \
below /nowhere.
    """
    folder = locate(run_or_export, storage, having="policy")
    if trusted:
        trust.accept(sweep_folder(folder))
    return Policy.load(single_policy_folder(folder))
