"""`rlssl export`: writes a policy as safetensors and JSON."""

import shutil
from pathlib import Path

from rlssl import trust
from rlssl.errors import DEFAULT_STORAGE
from rlssl.experiment.runs import locate, single_policy_folder, sweep_folder


def export(
    run: str, *, out: Path | None = None, storage: str = DEFAULT_STORAGE, trusted: bool = False
) -> Path:
    """Copies the newest policy of a run out of its checkpoint; ``rlssl.load_policy`` reads it.

    Args:
        run: A trial's folder, or the folder or name of a run with one trial.
        out: The folder to write; None: ``export`` in the trial's folder.
        storage: The folder in which names are looked up.
        trusted: Whether to trust a run of foreign origin, and so its export; see `rlssl.trust`.

    Returns:
        The folder.

    Raises:
        SpecError: If there is no such run, or the run has several trials.
    """
    if trusted:
        trust.accept(sweep_folder(locate(run, storage)))
    source = single_policy_folder(run, storage)
    target = out if out is not None else source.parent.parent / "export"
    shutil.copytree(source, target, dirs_exist_ok=True)
    if trust.is_trusted(source):
        trust.record(target)
    return target
