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

PRESETS: Mapping[str, Mapping[str, Any]] = {"a3c_atari": _ATARI}

#: Whether gradients wait for each other.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "a3c": {"training": {"synchronous": False}},
    "a2c": {"training": {"synchronous": True}},
}
