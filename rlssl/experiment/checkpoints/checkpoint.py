"""Writes and restores checkpoints: RLlib's files, and a manifest with a checksum of every file."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.clocks import ENV_STEPS
from rlssl.experiment.checkpoints import exact_state
from rlssl.experiment.checkpoints.manifest import (
    CheckpointInfo,
    check,
    newest_or_none_yet,
    newest_valid,
    oldest_first,
)
from rlssl.policy import Policy
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.ray_internals.tuning import check_storage_exists
from rlssl.run_files import ALGORITHM_FOLDER, MANIFEST, POLICY_FOLDER, RUN_STATE_FILE
from rlssl.system.files import checksum, flush
from rlssl.system.random_state import undisturbed_generators

__all__ = [
    "CheckpointInfo",
    "check",
    "newest_or_none_yet",
    "newest_valid",
    "publish",
    "publish_through",
    "remove_unfinished",
    "restore",
    "save",
]

#: Name pattern of checkpoints that are being written.
_UNFINISHED = ".checkpoint_*.writing"


def save(
    algorithm: Algorithm, folder: Path, env_steps: int, progress: Mapping[str, Any] | None = None
) -> None:
    """Writes the algorithm's state, its policy and the manifest into ``folder``.

    Saving does not change how the run continues. The policy is left out if the user configured
    their own connectors; see `Policy`.
    """
    with undisturbed_generators():
        algorithm.save_to_path(str(folder / ALGORITHM_FOLDER))
        if not custom_connectors(algorithm.config):
            Policy.from_algorithm(algorithm).save(folder / POLICY_FOLDER)
    exact_state.take(algorithm).save(folder / RUN_STATE_FILE)
    files = {str(path.relative_to(folder)): checksum(path) for path in _files(folder)}
    clock = getattr(algorithm.config, "clock", ENV_STEPS)
    manifest = {clock: env_steps, "progress": dict(progress or {}), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def restore(algorithm: Algorithm, found: CheckpointInfo) -> int:
    """Restores a checkpoint into a newly built algorithm.

    Returns:
        Number of open episodes that are lost, because their environments could not be saved.
    """
    algorithm.restore_from_path(str(found.path / ALGORITHM_FOLDER))
    # Checkpoints of early versions have no such file.
    state = found.path / RUN_STATE_FILE
    return exact_state.give(algorithm, exact_state.RunState.load(state)) if state.is_file() else 0


def publish(written: Path, target: Path) -> None:
    """Copies a finished checkpoint to its final folder, atomically.

    Args:
        written: The folder to copy.
        target: ``checkpoint_N``; an existing folder is replaced.
    """
    temporary = target.with_name(f".{target.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(written, temporary)
    except OSError:
        # On a full disk, half a checkpoint would take the place of results.
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    folders = [path for path in temporary.rglob("*") if path.is_dir()]
    for path in (*_files(temporary), *folders, temporary):
        flush(path)
    if target.exists():
        # Left by a process that died before it reported this checkpoint to Tune.
        replaced = target.with_name(f".{target.name}.replaced.writing")
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
        temporary.rename(target)
        shutil.rmtree(replaced)
    else:
        temporary.rename(target)
    flush(target.parent)


def prune(trial_folder: Path, keep: int) -> None:
    """Deletes all finished checkpoints but the newest ones.

    Args:
        trial_folder: The folder of the checkpoints.
        keep: Number of checkpoints that stay; >= 1.
    """
    for folder in oldest_first(trial_folder)[:-keep]:
        # A kill leaves a folder that `remove_unfinished` deletes.
        doomed = folder.with_name(f".{folder.name}.old.writing")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def publish_through(storage: Any, keep: int) -> None:
    """Makes Tune's storage of this trial copy checkpoints with `publish`, on a local file system.

    Then only the newest ``keep`` checkpoints stay. Tune itself would delete the others in the
    driver, and save its state with every few checkpoints.

    Tune itself copies file by file into the final folder. This function replaces the method that
    copies, only in this process's storage object. `test_tune_still_copies_through_this_method`
    fails if Ray renames that method.
    """
    if not isinstance(storage.storage_filesystem, pyarrow.fs.LocalFileSystem):
        return

    def persist(checkpoint: Any) -> Any:
        check_storage_exists(storage)
        target = Path(storage.checkpoint_fs_path)
        publish(Path(checkpoint.path), target)
        prune(target.parent, keep)
        return type(checkpoint)(
            path=storage.checkpoint_fs_path, filesystem=storage.storage_filesystem
        )

    storage.persist_current_checkpoint = persist


def remove_unfinished(trial_folder: Path) -> None:
    """Deletes unfinished checkpoints that a killed process left."""
    for folder in trial_folder.glob(_UNFINISHED):
        shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
