"""`rlssl export`: writes a policy as safetensors and JSON."""

import contextlib
import os
import shutil
from pathlib import Path

from rlssl import trust
from rlssl.errors import DEFAULT_STORAGE
from rlssl.experiment.run_folders import checkpoint_folder, locate, sweep_folder
from rlssl.experiment.runs import single_policy_folder


def export(
    run: str, *, out: Path | None = None, storage: str = DEFAULT_STORAGE, trusted: bool = False
) -> Path:
    """Copies the newest policy of a run out of its checkpoint; ``rlssl.load_policy`` reads it.

    Args:
        run: The folder or name of a run with one trial, or the folder of a trial, of a checkpoint,
            or of an export.
        out: The folder to write; None: ``export`` in the trial's folder, or the given export.
        storage: The folder in which names are looked up.
        trusted: Whether to trust a run of foreign origin, and so its export; see `rlssl.trust`.

    Returns:
        The folder.

    Raises:
        SpecError: If there is no such run, or the run has several trials.
        OSError: If a file cannot be read or written; then the folder is as it was.
    """
    folder = locate(run, storage, having="policy")
    if trusted:
        trust.accept(sweep_folder(folder))
    source = single_policy_folder(folder)
    if out is None and checkpoint_folder(source) is None:
        return source  # the user gave an export
    target = out if out is not None else source.parent.parent / "export"
    if target.resolve() == source:
        return source
    _copy(source, target)
    if trust.is_trusted(source):
        trust.record(target)
    return target


def _copy(source: Path, target: Path) -> None:
    """Copies the files of a folder; if one cannot be copied, none of them is there."""
    target.mkdir(parents=True, exist_ok=True)
    copied = target / f".{os.getpid()}.exporting"
    try:
        shutil.copytree(source, copied)
        for path in copied.iterdir():
            path.replace(target / path.name)
    finally:
        shutil.rmtree(copied, ignore_errors=True)
        with contextlib.suppress(OSError):  # it has files
            target.rmdir()
