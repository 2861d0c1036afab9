"""Reads the weights of a checkpoint, of any algorithm."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.rl_module.rl_module import RLModule

from rlssl.algorithms.common.transfer.weights import Load, StartWeights
from rlssl.errors import SpecError
from rlssl.old_names import renamed_state
from rlssl.plugins import add_to_import_path, load_plugins
from rlssl.run_files import ALGORITHM_FOLDER, SPEC_FILE

#: Path of the module's weights inside an rlssl checkpoint; RLlib writes it as a pickle.
WEIGHTS = Path(
    ALGORITHM_FOLDER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_LEARNER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
    "module_state.pkl",
)


def read_weights(checkpoint: Path, load: Load) -> StartWeights:
    """Reads the weights of a trusted checkpoint; imports the plug-ins of its run.

    Args:
        checkpoint: A valid checkpoint.
        load: What is taken. All but "everything" need the networks, which are built for it.

    Raises:
        SpecError: If the networks cannot be built.
    """
    with (checkpoint / WEIGHTS).open("rb") as file:
        state = renamed_state(pickle.load(file))
    if load == "everything":
        return StartWeights(state)
    spec = spec_of(checkpoint)
    add_to_import_path([path for path in spec.get("plugins_path", []) if Path(path).is_dir()])
    load_plugins(spec.get("plugins", []))
    try:
        module = _build(checkpoint)
    except Exception as error:  # a plug-in's class may raise anything
        raise SpecError(
            f"the networks of {checkpoint} cannot be built: {type(error).__name__}: {error}. Its "
            "plug-ins and its script must register what they registered when it was trained."
        ) from error
    of_losses = [name for name in state if name.startswith("auxiliary.")]
    module.set_state({name: value for name, value in state.items() if name not in of_losses})
    return StartWeights.of(module, of_losses)


def _build(checkpoint: Path) -> Any:
    """The module of a checkpoint for learning, without auxiliary losses."""
    path = (checkpoint / WEIGHTS).with_name(RLModule.CLASS_AND_CTOR_ARGS_FILE_NAME)
    with path.open("rb") as file:
        saved = pickle.load(file)
    _, given = saved["ctor_args_and_kwargs"]
    settings = {**given["model_config"], "auxiliary": {}, "freeze": None}
    with torch.random.fork_rng(devices=[]):
        return saved["class"](**{**given, "model_config": settings, "inference_only": False})


def spec_of(checkpoint: Path) -> dict[str, Any]:
    """The resolved spec of a checkpoint's trial; {} if it is missing or damaged."""
    try:
        document = yaml.safe_load((checkpoint.parent / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}


def in_words(document: Mapping[str, Any]) -> str:
    """Name, algorithm, environment and losses of a spec, in words."""
    try:
        losses = "+".join(document.get("auxiliary") or {}) or "no auxiliary loss"
        words = f"{document['algorithm']} on {document['env']['id']}, {losses}"
        return f"'{document['name']}' ({words})"
    except (AttributeError, KeyError, TypeError):
        return "another spec"
