"""Verified checkpoints: RLlib's files, and a manifest with a checksum of every file."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.errors import SpecError
from rlssl.experiment.checkpoints import exact_state
from rlssl.old_names import PROGRESS_KEYS, renamed
from rlssl.policy import Policy
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.ray_internals.tuning import check_storage_exists
from rlssl.run_files import ALGORITHM_FOLDER, MANIFEST, POLICY_FOLDER, RUN_STATE_FILE
from rlssl.system.files import checksum, flush
from rlssl.system.random_state import undisturbed_generators

logger = logging.getLogger(__name__)

#: Name patterns of finished checkpoints, and of checkpoints that are being written.
_FINISHED, _UNFINISHED = "checkpoint_*", ".checkpoint_*.writing"


@dataclass(frozen=True)
class CheckpointInfo:
    """A valid checkpoint: all its files exist and match their checksums."""

    path: Path
    env_steps: int
    # Other counters of the trial; see `SpecTrainable.save_checkpoint`.
    progress: Mapping[str, Any] = field(default_factory=dict)


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
    manifest = {"env_steps": env_steps, "progress": dict(progress or {}), "files": files}
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


def publish_through(storage: Any) -> None:
    """Makes Tune's storage of this trial copy checkpoints with `publish`, on a local file system.

    Tune itself copies file by file into the final folder. This function replaces the method that
    copies, only in this process's storage object. `test_tune_still_copies_through_this_method`
    fails if Ray renames that method.
    """
    if not isinstance(storage.storage_filesystem, pyarrow.fs.LocalFileSystem):
        return

    def persist(checkpoint: Any) -> Any:
        check_storage_exists(storage)
        publish(Path(checkpoint.path), Path(storage.checkpoint_fs_path))
        return type(checkpoint)(
            path=storage.checkpoint_fs_path, filesystem=storage.storage_filesystem
        )

    storage.persist_current_checkpoint = persist


def remove_unfinished(trial_folder: Path) -> None:
    """Deletes unfinished checkpoints that a killed process left."""
    for folder in trial_folder.glob(_UNFINISHED):
        shutil.rmtree(folder, ignore_errors=True)


def check(folder: Path) -> CheckpointInfo:
    """Verifies every file of a checkpoint.

    Raises:
        SpecError: If a file is missing or changed; names the file.
    """
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise SpecError(f"checkpoint {folder} has no file {name}.")
        if checksum(folder / name) != expected:
            raise SpecError(f"checkpoint {folder}: {name} is truncated or changed.")
    return CheckpointInfo(
        path=folder,
        env_steps=manifest["env_steps"],
        progress=renamed(PROGRESS_KEYS, manifest.get("progress", {})),
    )


def newest_valid(trial_folder: Path) -> CheckpointInfo | None:
    """The valid checkpoint with the most env steps; invalid ones are logged with the reason."""
    valid = []
    for folder in sorted(trial_folder.glob(_FINISHED)):
        try:
            valid.append(check(folder))
        except SpecError as error:
            logger.warning("Skipping a checkpoint: %s", error)
    return max(valid, key=lambda info: info.env_steps, default=None)


def newest_or_none_yet(trial_folder: Path) -> CheckpointInfo | None:
    """Like `newest_valid`; None only if the trial has no checkpoint yet.

    Raises:
        SpecError: If the trial has checkpoints, and none of them is valid.
    """
    found = newest_valid(trial_folder)
    if found is None and any(trial_folder.glob(_FINISHED)):
        raise SpecError(
            f"{trial_folder} has no valid checkpoint left; delete its checkpoint_* folders to "
            "restart this trial from the beginning."
        )
    return found


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise SpecError(f"checkpoint {folder} has no readable {MANIFEST}.") from error
    if not isinstance(manifest, dict) or not {"env_steps", "files"} <= manifest.keys():
        raise SpecError(f"checkpoint {folder} has no readable {MANIFEST}.")
    return manifest


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
