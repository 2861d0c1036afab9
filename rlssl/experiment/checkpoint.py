"""Checkpoints that prove themselves: a manifest of checksums beside what RLlib saves."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.errors import SpecError
from rlssl.policy import Policy
from rlssl.rollouts.rllib_private import custom_connectors

logger = logging.getLogger(__name__)

#: Lists every file with its checksum, and the env steps; written last.
MANIFEST = "rlssl_checkpoint.json"
#: RLlib's own checkpoint: everything that training needs.
ALGORITHM_FOLDER = "algorithm"
#: The policy alone, as `rlssl.load_policy` reads it.
POLICY_FOLDER = "policy"


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint whose files are all there and unchanged."""

    path: Path
    env_steps: int


def save(algorithm: Algorithm, folder: Path, env_steps: int) -> None:
    """Writes the algorithm's state, its policy and the manifest into ``folder``.

    Without the policy where connectors of the user's own belong to it; see `Policy`.
    """
    algorithm.save_to_path(str(folder / ALGORITHM_FOLDER))
    if not custom_connectors(algorithm.config):
        Policy.from_algorithm(algorithm).save(folder / POLICY_FOLDER)
    files = {str(path.relative_to(folder)): _checksum(path) for path in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps({"env_steps": env_steps, "files": files}))


def check(folder: Path) -> CheckpointInfo:
    """Verifies a checkpoint.

    Raises:
        SpecError: Naming the file that is missing or changed.
    """
    manifest = _read_manifest(folder)
    for name, checksum in manifest["files"].items():
        if not (folder / name).is_file():
            raise SpecError(f"checkpoint {folder} lacks {name}.")
        if _checksum(folder / name) != checksum:
            raise SpecError(f"checkpoint {folder}: {name} is truncated or changed.")
    return CheckpointInfo(path=folder, env_steps=manifest["env_steps"])


def newest_valid(trial_folder: Path) -> CheckpointInfo | None:
    """The valid checkpoint with the most env steps; those skipped are logged with the reason."""
    valid = []
    for folder in sorted(trial_folder.glob("checkpoint_*")):
        try:
            valid.append(check(folder))
        except SpecError as error:
            logger.warning("Skipping a checkpoint: %s", error)
    return max(valid, key=lambda info: info.env_steps, default=None)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SpecError(f"checkpoint {folder} has no readable {MANIFEST}.") from error
    return manifest


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
