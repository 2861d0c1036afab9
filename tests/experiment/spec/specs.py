"""Specs for tests."""

from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec

#: The least that a spec must say.
BASE: dict[str, Any] = {"algorithm": "ppo", "env": "CartPole-v1"}

#: A spec that sets every key.
FULL: dict[str, Any] = {
    "name": "everything",
    "algorithm": "ppo",
    "preset": None,
    "variant": "both",
    "plugins": [],
    "env": {"id": "CartPole-v1"},
    "auxiliary": {"icm": {"coeff": 1.0, "schedule": [[0, 1.0], [1000, 0.0]]}},
    "model": {"encoder": "mlp", "encoder_config": {"hidden": [64]}, "frame_stack": 2, "lstm": None},
    "training": {"lr": [[0, 1e-3], [400_000, 0]], "grad_clip": None, "num_epochs": 4},
    "env_runners": {"num_envs": 4, "fragment_length": "auto", "vectorize": "sync"},
    "connectors": {"env_to_module": [], "learner": []},
    "search": {
        "training.gamma": {"grid": [0.9, 0.99]},
        "training.kl_target": {"uniform": [0.01, 1]},
    },
    "seeds": [0, 1],
    "searcher": {"random": {"num_samples": 2, "seed": 1}},
    "scheduler": {"asha": {"max_env_steps": 400_000, "grace_env_steps": 40_000}},
    "stop": {"env_steps": 400_000},
    "evaluation": {"every_env_steps": 40_000, "episodes": 10, "explore": False, "env": {}},
    "diagnostics": ["ranks", {"dormant": {"tau": 0.025}}, "action_probe"],
    "checkpoint": {
        "every_env_steps": 40_000,
        "every_s": 300,
        "interrupt_s": 10,
        "keep": 2,
        "replay_buffer": True,
    },
    "resources": {
        "cpus": 2,
        "env_runners": 2,
        "cpus_per_env_runner": 1,
        "gpus_per_env_runner": 0,
        "learners": 0,
        "gpus_per_learner": 0,
        "deterministic": False,
    },
    "env_step_timeout_s": 30,
    "max_env_crashes_per_1000_env_steps": 2,
    "watchdog_s": 300,
    "report_every_s": 5,
    "reuse_processes": True,
    "tracking": ["tensorboard"],
    "storage": "./results",
}


def refused(document: dict[str, Any], *overrides: str) -> str:
    """The message with which ``load_spec`` refuses `BASE` changed by ``document``."""
    with pytest.raises(SpecError) as caught:
        load_spec({**BASE, **document}, overrides)
    return str(caught.value)
