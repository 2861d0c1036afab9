"""Verifies checkpoints by their manifest. It imports neither torch nor Ray, so it is fast."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlssl.clocks import ENV_STEPS, WORDS, clock_of, has_steps, steps_of
from rlssl.errors import SpecError
from rlssl.old_names import PROGRESS_KEYS, renamed
from rlssl.run_files import MANIFEST
from rlssl.system.files import checksum

logger = logging.getLogger(__name__)

#: Name pattern of finished checkpoints.
_FINISHED = "checkpoint_*"


@dataclass(frozen=True)
class CheckpointInfo:
    """A valid checkpoint: all its files exist and match their checksums."""

    path: Path
    # On the clock of the run.
    env_steps: int
    # Other counters of the trial; see `SpecTrainable.save_checkpoint`.
    progress: Mapping[str, Any] = field(default_factory=dict)
    # What `env_steps` counts; see `rlssl.clocks`.
    clock: str = ENV_STEPS

    @property
    def words(self) -> str:
        """How far the run was, in words."""
        return f"{self.env_steps:,} {WORDS[self.clock]}"


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
        env_steps=steps_of(manifest),
        clock=clock_of(manifest),
        progress=renamed(PROGRESS_KEYS, manifest.get("progress", {})),
    )


def oldest_first(trial_folder: Path) -> list[Path]:
    """The finished checkpoints of a trial by their env steps, damaged ones first; unverified."""
    return sorted(trial_folder.glob(_FINISHED), key=_env_steps)


def _env_steps(folder: Path) -> int:
    """Env steps of a checkpoint; -1 if its manifest is damaged."""
    try:
        return steps_of(_read_manifest(folder))
    except (SpecError, TypeError, ValueError):
        return -1


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
    if not isinstance(manifest, dict) or not (has_steps(manifest) and "files" in manifest):
        raise SpecError(f"checkpoint {folder} has no readable {MANIFEST}.")
    return manifest
