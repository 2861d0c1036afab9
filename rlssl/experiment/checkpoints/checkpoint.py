"""Checkpoints that prove themselves: a manifest of checksums beside what RLlib saves."""

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


#: Names of checkpoints, and of those that are being written.
_FINISHED, _UNFINISHED = "checkpoint_*", ".checkpoint_*.writing"


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint whose files are all there and unchanged."""

    path: Path
    env_steps: int
    # What else the trial counts; see `TrialRunner`.
    progress: Mapping[str, Any] = field(default_factory=dict)


def save(
    algorithm: Algorithm, folder: Path, env_steps: int, progress: Mapping[str, Any] | None = None
) -> None:
    """Writes the algorithm's state, its policy and the manifest into ``folder``.

    Saving changes nothing of what the run does next. Without the policy where connectors of the
    user's own belong to it; see `Policy`.
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
    """Lets a newly built algorithm go on from a checkpoint.

    Returns:
        Number of open episodes that are lost, because their environments could not be kept.
    """
    algorithm.restore_from_path(str(found.path / ALGORITHM_FOLDER))
    # Checkpoints of before this file existed have none.
    state = found.path / RUN_STATE_FILE
    return exact_state.give(algorithm, exact_state.RunState.load(state)) if state.is_file() else 0


def publish(written: Path, target: Path) -> None:
    """Copies a complete checkpoint to its place, where it appears whole or not at all.

    Args:
        written: The folder to copy.
        target: ``checkpoint_N``; what is there already is replaced.
    """
    aside = target.with_name(f".{target.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(written, aside)
    for path in (*_files(aside), *(path for path in aside.rglob("*") if path.is_dir()), aside):
        flush(path)
    if target.exists():
        # Of a process that died before Tune heard of it.
        replaced = target.with_name(f".{target.name}.replaced.writing")
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
        aside.rename(target)
        shutil.rmtree(replaced)
    else:
        aside.rename(target)
    flush(target.parent)


def publish_through(storage: Any) -> None:
    """Makes Tune's storage of one trial use `publish`, where it is a file system like any other.

    Tune itself copies file by file into the final folder. The one method that does is replaced, in
    the one object that this process has; `test_tune_still_copies_through_this_method` watches it.
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
    """Deletes what a killed process was writing."""
    for folder in trial_folder.glob(_UNFINISHED):
        shutil.rmtree(folder, ignore_errors=True)


def check(folder: Path) -> CheckpointInfo:
    """Verifies a checkpoint.

    Raises:
        SpecError: Naming the file that is missing or changed.
    """
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise SpecError(f"checkpoint {folder} lacks {name}.")
        if checksum(folder / name) != expected:
            raise SpecError(f"checkpoint {folder}: {name} is truncated or changed.")
    return CheckpointInfo(
        path=folder,
        env_steps=manifest["env_steps"],
        progress=renamed(PROGRESS_KEYS, manifest.get("progress", {})),
    )


def newest_valid(trial_folder: Path) -> CheckpointInfo | None:
    """The valid checkpoint with the most env steps; those skipped are logged with the reason."""
    valid = []
    for folder in sorted(trial_folder.glob(_FINISHED)):
        try:
            valid.append(check(folder))
        except SpecError as error:
            logger.warning("Skipping a checkpoint: %s", error)
    return max(valid, key=lambda info: info.env_steps, default=None)


def newest_or_none_yet(trial_folder: Path) -> CheckpointInfo | None:
    """As `newest_valid`; None for a trial that has made no checkpoint yet.

    Raises:
        SpecError: If there are checkpoints, and none of them is valid.
    """
    found = newest_valid(trial_folder)
    if found is None and any(trial_folder.glob(_FINISHED)):
        raise SpecError(
            f"{trial_folder} has no valid checkpoint left; delete its checkpoint_* folders to "
            "start this trial again from the beginning."
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
