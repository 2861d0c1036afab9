"""A member of a population continues from the checkpoint of another member."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rlssl.analysis.objective import OBJECTIVE
from rlssl.experiment.checkpoints.manifest import CheckpointInfo, check
from rlssl.run_files import ALGORITHM_FOLDER, MANIFEST, REPLAY_FOLDER, RUN_STATE_FILE
from rlssl.system.files import flush

#: Key of a trial's config: each time that the member continued from another one, as
#: `{env_steps, source, values}`. Key of a checkpoint's progress: how often that was.
EXPLOITS = "exploits"

#: Name pattern of checkpoints that are being replaced.
_REPLACED = ".{}.own"


def inherit(
    own: CheckpointInfo, source: CheckpointInfo, *, replay: Literal["keep", "copy"], exploits: int
) -> None:
    """Replaces a member's checkpoint by one with what another member has learned.

    Networks, target networks, optimizers, counters of env steps and updates, scores and the
    objective come from the source. With ``keep``, the replay buffer, the environments in
    mid-episode and the random generators stay those of the member. The files are hard links where
    the file system has them.

    Args:
        own: The newest checkpoint of the member, which is replaced.
        source: The checkpoint from which the member continues; all its files are valid.
        replay: Whether the member keeps its replay buffer, or copies that of the source.
        exploits: How often the member has continued from another one, with this time.

    Raises:
        OSError: If a file cannot be written; then the member's checkpoint is as it was.
    """
    target = own.path
    written = target.with_name(f".{target.name}.writing")
    shutil.rmtree(written, ignore_errors=True)
    manifests = {info.path: _manifest(info.path) for info in (own, source)}
    files: dict[str, str] = {}
    try:
        for folder, name, digest in _chosen(manifests, own.path, source.path, replay):
            files[name] = digest
            (written / name).parent.mkdir(parents=True, exist_ok=True)
            _link(folder / name, written / name)
        progress = {**own.progress, EXPLOITS: exploits}
        progress.pop(OBJECTIVE, None)
        if OBJECTIVE in source.progress:
            progress[OBJECTIVE] = source.progress[OBJECTIVE]
        manifest = {"env_steps": source.env_steps, "progress": progress, "files": files}
        (written / MANIFEST).write_text(json.dumps(manifest))
        for path in (written / MANIFEST, *(p for p in written.rglob("*") if p.is_dir()), written):
            flush(path)
    except OSError:
        shutil.rmtree(written, ignore_errors=True)
        raise
    before = target.with_name(_REPLACED.format(target.name))
    target.rename(before)
    written.rename(target)
    flush(target.parent)
    shutil.rmtree(before)


def restore_replaced(trial_folder: Path) -> None:
    """Undoes or finishes the replacement of a checkpoint that a kill has interrupted."""
    for before in trial_folder.glob(_REPLACED.format("checkpoint_*")):
        target = before.with_name(before.name.removeprefix(".").removesuffix(".own"))
        if target.exists():
            shutil.rmtree(before)
        else:
            before.rename(target)


def _chosen(
    manifests: dict[Path, dict[str, str]], own: Path, source: Path, replay: str
) -> Iterator[tuple[Path, str, str]]:
    """The folder, name and checksum of each file of the new checkpoint."""
    for folder in (source, own):
        for name, digest in manifests[folder].items():
            is_own = replay == "keep" and _stays(name)
            if is_own == (folder == own):
                yield folder, name, digest


def _stays(name: str) -> bool:
    return name == RUN_STATE_FILE or name.startswith(f"{ALGORITHM_FOLDER}/{REPLAY_FOLDER}/")


def _manifest(folder: Path) -> dict[str, str]:
    check(folder)
    files: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
    return files


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        flush(target)
