"""`rlssl train --from RUN`: checks that the weights fit before anything starts."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.rl_module.rl_module import RLModule

from rlssl.errors import SpecError
from rlssl.experiment.spec.schema import Spec
from rlssl.old_names import renamed_state
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


def check_fits(found: Path, module: RLModule, spec: Spec) -> None:
    """Compares the shapes of a checkpoint's weights with those of the networks to fill.

    Args:
        found: A trusted checkpoint.
        module: The networks, built from ``spec``.
        spec: The spec of the trial to start.

    Raises:
        SpecError: If the weights do not fit; names both specs and the first weight that differs.
    """
    with (found / WEIGHTS).open("rb") as file:
        saved = {name: np.shape(value) for name, value in renamed_state(pickle.load(file)).items()}
    wanted = {name: np.shape(value) for name, value in module.get_state().items()}
    for name in [*wanted, *saved]:
        if saved.get(name) != wanted.get(name):
            raise SpecError(
                f"--from {found} does not fit '{spec.name}' ({_words(_settings(spec))}): weight "
                f"'{name}' is {_size(saved, name)} there, {_size(wanted, name)} here. That "
                f"checkpoint belongs to {_origin(found)}; give this run the same env, model and "
                "auxiliary, or leave --from out."
            )


def _size(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "missing"


def _origin(found: Path) -> str:
    try:
        document = yaml.safe_load((found.parent / SPEC_FILE).read_text(encoding="utf-8"))
        return f"'{document['name']}' ({_words(document)})"
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return "another spec"


def _settings(spec: Spec) -> dict[str, Any]:
    return {"algorithm": spec.algorithm, "env": spec.env, "auxiliary": spec.auxiliary}


def _words(document: dict[str, Any]) -> str:
    losses = "+".join(document.get("auxiliary") or {}) or "no auxiliary loss"
    return f"{document['algorithm']} on {document['env']['id']}, {losses}"
