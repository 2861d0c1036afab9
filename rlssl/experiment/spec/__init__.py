"""Specs: read from a file, completed by presets, checked, and turned into an RLlib config.

Public names are imported on first use, so that `rlssl --help` stays fast.
"""

from typing import TYPE_CHECKING

from rlssl.system.lazy_imports import attribute_loader

if TYPE_CHECKING:
    from rlssl.experiment.spec.building import build_config
    from rlssl.experiment.spec.loading import at_point, load_spec, resolved_dict, save_spec
    from rlssl.experiment.spec.schema import Spec
    from rlssl.experiment.spec.search_space import (
        draw_points,
        has_random,
        num_samples,
        num_trials,
        points,
        to_tune,
    )
    from rlssl.experiment.spec.yaml_reader import list_sweeps

_DEFINED_IN = {
    "Spec": "rlssl.experiment.spec.schema",
    "at_point": "rlssl.experiment.spec.loading",
    "build_config": "rlssl.experiment.spec.building",
    "draw_points": "rlssl.experiment.spec.search_space",
    "has_random": "rlssl.experiment.spec.search_space",
    "list_sweeps": "rlssl.experiment.spec.yaml_reader",
    "load_spec": "rlssl.experiment.spec.loading",
    "num_samples": "rlssl.experiment.spec.search_space",
    "num_trials": "rlssl.experiment.spec.search_space",
    "points": "rlssl.experiment.spec.search_space",
    "resolved_dict": "rlssl.experiment.spec.loading",
    "save_spec": "rlssl.experiment.spec.loading",
    "to_tune": "rlssl.experiment.spec.search_space",
}

__all__ = [
    "Spec",
    "at_point",
    "build_config",
    "draw_points",
    "has_random",
    "list_sweeps",
    "load_spec",
    "num_samples",
    "num_trials",
    "points",
    "resolved_dict",
    "save_spec",
    "to_tune",
]

__getattr__ = attribute_loader(__name__, _DEFINED_IN)
