"""The run's own copy of the weights that its trials begin with.

So a trial that starts later, on another node or after a crash, does not need the other run.
"""

import dataclasses
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlssl.algorithms.common.transfer.weights import Load, StartWeights, Taken
from rlssl.errors import SpecError
from rlssl.experiment.start_weights.reading import spec_of
from rlssl.experiment.start_weights.sources import Key, Sources
from rlssl.run_files import START_WEIGHTS_FILE, START_WEIGHTS_FOLDER
from rlssl.system.files import replace_text
from rlssl.system.json_output import readable_json
from rlssl.system.stores.places import parse_place, place_of_folder


def write_weights(folder: Path, sources: Sources, taken: Mapping[Key, Taken]) -> None:
    """Writes weights into a run's folder and its object store, and what trials take of them.

    Args:
        folder: The run's folder.
        sources: From ``find_sources``.
        taken: From ``check_start`` of all trials.

    Raises:
        OSError: If they cannot be written.
    """
    place = place_of_folder(folder)
    for key, source in sources.items():
        data = pickle.dumps(source.weights)
        path = folder / _name(key)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        if place is not None:
            # pyarrow takes a moment to import.
            from rlssl.system.stores.objects import Objects

            Objects(place).put(_name(key), data)
    if sources:
        record = [_row(key, sources, taken) for key in sources]
        replace_text(folder / START_WEIGHTS_FILE, readable_json(record, indent=2) + "\n")


def _row(key: Key, sources: Sources, taken: Mapping[Key, Taken]) -> dict[str, Any]:
    path = sources[key].checkpoint
    return {
        "from": key.run,
        "load": key.load,
        "seed": key.seed,
        "checkpoint": str(path),
        "algorithm": spec_of(path).get("algorithm"),
        **dataclasses.asdict(taken[key]),
        "file": _name(key),
    }


def lines(sources: Sources, taken: Mapping[Key, Taken]) -> list[str]:
    """What trials begin with, as lines to print."""
    found = []
    for key, source in sources.items():
        of_seed = "" if key.seed is None else f", seed {key.seed}"
        found.append(f"Starting from the weights of (load: {key.load}{of_seed})")
        found.append(str(source.checkpoint))
        parts = {"taken": taken[key].taken, "new": taken[key].new, "left there": taken[key].left}
        words = (f"{word}: {', '.join(names)}" for word, names in parts.items() if names)
        found.append(f"  {'; '.join(words)}")
    return found


def read_own_weights(run: Path, uri: str | None, name: str, load: Load, seed: int) -> StartWeights:
    """The weights that a trial begins with.

    Args:
        run: The run's folder on this machine.
        uri: The run on an object store; None without one.
        name: ``model.from``.
        load: ``model.load``.
        seed: Seed of the trial.

    Raises:
        SpecError: If the run has no copy of them.
    """
    for key in (Key(name, load, seed), Key(name, load, None)):
        data = _read(run, uri, _name(key))
        if data is not None:
            weights: StartWeights = pickle.loads(data)
            return weights
    raise SpecError(
        f"{run / START_WEIGHTS_FOLDER} has no weights of model.from '{name}' for seed {seed}; "
        "start the run again."
    )


def _read(run: Path, uri: str | None, name: str) -> bytes | None:
    if (run / name).is_file():
        return (run / name).read_bytes()
    if uri is None:
        return None
    from rlssl.system.stores.objects import Objects

    place = parse_place(uri)
    assert place is not None
    return Objects(place).get(name)


def _name(key: Key) -> str:
    digest = hashlib.sha256(repr(tuple(key)).encode()).hexdigest()[:16]
    return f"{START_WEIGHTS_FOLDER}/{digest}.pkl"
