"""Settings by name: partial specs, below those of a file."""

from collections.abc import Mapping
from typing import Any

#: Atari by the original's appendix: 16 workers of one game each, 5 steps a gradient.
_ATARI: Mapping[str, Any] = {
    "model": {"encoder": "nature", "frame_stack": 4, "shared_encoder": True},
    "env_runners": {"num_envs": 1, "fragment_length": 5},
    "resources": {"env_runners": 16},
    "training": {
        "optimizer": "rmsprop",
        "rmsprop_alpha": 0.99,
        "optimizer_epsilon": 0.1,
        "lr": 7e-4,
        "gamma": 0.99,
        "lambda_": 1.0,
        "entropy_coeff": 0.01,
        "vf_loss_coeff": 0.5,
        "grad_clip": 40.0,
    },
}

#: ICM's own agent by its code's `constants.py`: 20 workers of one game of 42x42 grey frames, a
#: memory, and Adam with statistics of each worker's own. The loss is a mean, as there, but without
#: the code's factor 20, so that the norm of 40 seldom cuts.
_ICM: Mapping[str, Any] = {
    "model": {
        "encoder": "icm",
        "frame_stack": 4,
        "shared_encoder": True,
        "lstm": {"hidden": 256, "sequence_length": 20},
    },
    "env_runners": {"num_envs": 1, "fragment_length": 20},
    "resources": {"env_runners": 20},
    "training": {
        "optimizer": "adam",
        "optimizer_state": "per_worker",
        "optimizer_epsilon": 1e-8,
        "lr": 1e-4,
        "gamma": 0.99,
        "lambda_": 1.0,
        "entropy_coeff": 0.01,
        "vf_loss_coeff": 0.5,
        "grad_clip": 40.0,
    },
    "auxiliary": {"icm": {"variant": "pathak"}},
}

PRESETS: Mapping[str, Mapping[str, Any]] = {"a3c_atari": _ATARI, "icm": _ICM}

#: Whether gradients wait for each other.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "a3c": {"training": {"synchronous": False}},
    # One step by the mean of all gradients: there are no statistics of one worker's own.
    "a2c": {"training": {"synchronous": True, "optimizer_state": "shared"}},
}
