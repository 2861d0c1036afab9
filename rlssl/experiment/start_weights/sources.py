"""Finds the runs that ``model.from`` names, before anything starts, and checks that they fit."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rlssl import trust
from rlssl.algorithms.common.transfer.description import OBSERVATIONS
from rlssl.algorithms.common.transfer.weights import Load, StartWeights, Taken
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.run_folders import (
    checkpoint_folder,
    locate,
    sweep_folder,
    trial_folder,
    trial_folders,
)
from rlssl.experiment.runs import describe, newest_checkpoint
from rlssl.experiment.spec.loading import at_point
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import points_to_check
from rlssl.experiment.start_weights.reading import in_words, read_weights, spec_of
from rlssl.run_files import POLICY_FILE, RUN_FILE, TRIAL_FILE


class Key(NamedTuple):
    """Which weights a trial begins with."""

    #: ``model.from``.
    run: str
    load: Load
    #: Seed of the trial, if the run has one trial for each seed; None: all take the same.
    seed: int | None


@dataclasses.dataclass(frozen=True)
class Source:
    """The weights of a checkpoint."""

    checkpoint: Path
    weights: StartWeights


class Sources(dict[Key, Source]):
    """The weights that the trials of a run begin with."""

    def of(self, spec: Spec, seed: int) -> tuple[Key, Source] | None:
        """The weights of one trial; None if it begins with new weights."""
        if spec.model.from_ is None:
            return None
        load: Load = spec.model.load or "encoder"
        keys = (Key(spec.model.from_, load, seed), Key(spec.model.from_, load, None))
        return next((key, self[key]) for key in keys if key in self)


def find_sources(spec: Spec, *, trusted: bool = False) -> Sources:
    """Reads all weights that the trials of a run or sweep begin with.

    Args:
        spec: From ``load_spec``.
        trusted: Allows to unpickle runs of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If there is no such run, it has no valid checkpoint or not one trial for each
            seed, or it is not trusted.
        ResourceError: If its object store does not answer.
    """
    sources = Sources()
    for one in specs_of(spec):
        if one.model.from_ is None:
            continue
        load: Load = one.model.load or "encoder"
        if any(key[:2] == (one.model.from_, load) for key in sources):
            continue
        found = _checkpoints(one.model.from_, one.storage, spec.seeds, trusted=trusted)
        for seed, path in found.items():
            sources[Key(one.model.from_, load, seed)] = Source(path, read_weights(path, load))
    return sources


def specs_of(spec: Spec) -> Iterator[Spec]:
    """The specs at points that together hold every value of the search."""
    for point in points_to_check(spec) if spec.search else [{}]:
        yield at_point(spec, point, spec.seeds[0])


def find_checkpoint(run: str, storage: str, *, trusted: bool) -> Path:
    """The newest valid checkpoint of a run that has one trial, or the given checkpoint.

    Args:
        run: The name of a run, or the folder of a run, a trial or a checkpoint.
        storage: The folder in which names are looked up.
        trusted: Whether the user trusts a run of foreign origin.

    Raises:
        SpecError: If there is no such run, it has several trials or no valid checkpoint, or it is
            not trusted.
    """
    found = _checkpoints(run, storage, [], trusted=trusted)
    if not found:
        raise SpecError(f"'{run}' has several trials; give the folder of one.")
    return found[None]


def _checkpoints(
    run: str, storage: str, seeds: list[int], *, trusted: bool
) -> dict[int | None, Path]:
    """Seed -> newest valid checkpoint; None -> that of the only trial, or the given checkpoint."""
    folder = locate(run, storage, having="checkpoint")
    if trusted:
        trust.accept(sweep_folder(folder))
    given, trial = checkpoint_folder(folder), trial_folder(folder)
    if given is None and trial is None and (folder / POLICY_FILE).is_file():
        raise SpecError(
            f"model.from '{run}' is an exported policy, which has no critic and no auxiliary "
            "losses to start from; give a run, a trial or a checkpoint."
        )
    trust.require(folder, "its checkpoints are pickles")
    if (sweep_folder(folder) / RUN_FILE).is_file():
        describe(sweep_folder(folder))  # makes its plug-ins importable
    if given is not None:
        return {None: checkpoint.check(given).path}
    trials = trial_folders(trial or folder)
    if len(trials) == 1:
        return {None: newest_checkpoint(trials[0])}
    return {seed: newest_checkpoint(_trial_of(run, trials, seed)) for seed in seeds}


def _trial_of(run: str, trials: list[Path], seed: int) -> Path:
    """The only trial with a seed."""
    found = [trial for trial in trials if _seed_of(trial) == seed]
    if len(found) != 1:
        raise SpecError(
            f"model.from '{run}' has {len(trials)} trials, and {len(found)} of them have the seed "
            f"{seed}; give the folder of one, or a run with one trial for each seed of this run."
        )
    return found[0]


def _seed_of(trial: Path) -> int | None:
    try:
        found = json.loads((trial / TRIAL_FILE).read_bytes()).get("seed")
    except (AttributeError, OSError, ValueError):
        return None
    return found if isinstance(found, int) else None


def check_start(spec: Spec, sources: Sources, module: Any) -> dict[Key, Taken]:
    """Checks that the networks of a trial can take their weights, with any seed.

    Args:
        spec: The spec of a trial.
        sources: From ``find_sources``.
        module: Its networks.

    Raises:
        SpecError: If they cannot; names both sides and what to change.
    """
    found = [it for seed in sources_seeds(sources) if (it := sources.of(spec, seed))]
    return {key: _check(spec, key, source, module) for key, source in found}


def sources_seeds(sources: Sources) -> list[int]:
    """The seeds for which there are weights; of weights for all seeds, any seed."""
    return sorted({key.seed or 0 for key in sources})


def _check(spec: Spec, key: Key, source: Source, module: Any) -> Taken:
    try:
        return source.weights.check(module, key.load)
    except SpecError as error:
        fix = "Give this run the same env, model and auxiliary, or leave --from out."
        if key.load != "everything":
            settings = _settings(source.weights)
            fix = f"Give this run the encoder and the observations of that run: {settings}."
        document = {"name": spec.name, "algorithm": spec.algorithm, "env": spec.env}
        own = in_words({**document, "auxiliary": spec.auxiliary})
        raise SpecError(
            f"model.from {source.checkpoint} does not fit {own}:\n{error}\n"
            f"That checkpoint belongs to {in_words(spec_of(source.checkpoint))}. {fix}"
        ) from error


def _settings(weights: StartWeights) -> str:
    """The settings of an encoder as options of the command line."""
    settings = {key: it for key, it in weights.description.items() if key != OBSERVATIONS}
    words = yaml.safe_dump(
        settings, default_flow_style=True, width=10_000, allow_unicode=True
    ).strip()
    return f"--set 'model={words}'"


def with_encoder_of(spec: Spec, sources: Sources) -> tuple[Spec, str]:
    """The spec with the encoder of the run that it begins with, where it says nothing of its own.

    Only if all runs agree, and the search has none of these settings.

    Returns:
        The spec, and a line that says what was taken over; "" if nothing was.
    """
    known = [one.weights.description for one in sources.values() if one.weights.description]
    if not known or any(one != known[0] for one in known):
        return spec, ""
    model = spec.model
    if any(path == "model" or path.startswith("model.encoder") for path in spec.search):
        return spec, ""
    changes: dict[str, Any] = {}
    if model.encoder is None and not model.encoder_config:
        changes = {key: known[0][key] for key in ("encoder", "encoder_config")}
    if model.frame_stack is None and "model.frame_stack" not in spec.search:
        changes["frame_stack"] = known[0]["frame_stack"]
    if model.normalize_observations is None and known[0]["normalize_observations"]:
        changes["normalize_observations"] = known[0]["normalize_observations"]
    if not changes:
        return spec, ""
    words = ", ".join(f"model.{key}: {value}" for key, value in changes.items())
    changed = spec.model_copy(update={"model": model.model_copy(update=changes)})
    return changed, f"As in that run: {words}"
