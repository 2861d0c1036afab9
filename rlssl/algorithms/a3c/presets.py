"""Settings by name: partial specs, below those of a file."""

from collections.abc import Mapping
from typing import Any

#: Atari as in the original's appendix: 16 workers with one environment each, 5 steps a gradient.
_ATARI: Mapping[str, Any] = {
    "model": {"encoder": "nature", "frame_stack": 4, "shared_encoder": True},
    "env_runners": {"num_envs": 1, "fragment_length": 5},
    "resources": {"env_runners": 16},
    "training": {
        # Epsilon 0.1 and norm 40 are for gradients that are summed over the 5 steps.
        "gradient_reduction": "sum",
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

#: The agent of ICM's code (`constants.py`): 20 workers with one environment of 42x42 gray frames
#: each, an LSTM, and Adam with separate statistics for each worker. That code multiplies means over
#: 20 steps by 20, before it clips at 40: the sum over a fragment.
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
        "gradient_reduction": "sum",
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

#: Asynchronous (A3C) or synchronous (A2C) gradients.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "a3c": {"training": {"synchronous": False}},
    # The mean of all gradients belongs to no single worker, so workers share the statistics.
    "a2c": {"training": {"synchronous": True, "optimizer_state": "shared"}},
}
