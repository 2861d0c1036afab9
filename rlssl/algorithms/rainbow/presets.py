"""Settings by name: partial specs, below those of a file."""

from collections.abc import Mapping
from typing import Any

#: Atari as in the Rainbow paper: 200 M frames, exploration only by noisy layers.
_RAINBOW: Mapping[str, Any] = {
    "model": {"encoder": "nature", "frame_stack": 4},
    "training": {
        "n_step": 3,
        "gamma": 0.99,
        "lr": 6.25e-5,
        "adam_epsilon": 1.5e-4,
        "train_batch_size_per_learner": 32,
        "head_hidden": [512],
        "sigma0": 0.5,
        "num_atoms": 51,
        "v_min": -10.0,
        "v_max": 10.0,
        "replay_capacity": 1_000_000,
        # 80 k frames; an update every 4 agent steps; a new target network every 32 k frames.
        "learning_starts_agent_steps": 20_000,
        "updates_per_agent_step": 0.25,
        "target_update_every_updates": 2_000,
        "replay": {"alpha": 0.5, "beta_start": 0.4, "beta_end": 1.0},
    },
}

#: The update of Nature DQN, without Rainbow's parts; other settings keep their defaults.
_DQN: Mapping[str, Any] = {
    "training": {
        "double": False,
        "dueling": False,
        "distributional": False,
        "noisy": False,
        "n_step": 1,
        "replay": {"prioritized": False},
    }
}

#: Rainbow on 100 k agent steps of Atari, as in Kaixhin's code.
_DATA_EFFICIENT: Mapping[str, Any] = {
    "model": {"encoder": "data_efficient", "frame_stack": 4},
    "env_runners": {"num_envs": 1, "fragment_length": 1},
    "training": {
        **_RAINBOW["training"],
        "n_step": 20,
        "lr": 1e-4,
        "head_hidden": [256],
        "sigma0": 0.1,
        "bias_sigma_fan": "out",
        "priority": "cross_entropy",
        "eval_epsilon": 0.001,
        "replay_capacity": 100_000,
        "learning_starts_agent_steps": 1_600,
        "updates_per_agent_step": 1.0,
        "target_update_every_updates": 2_000,
    },
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "rainbow": _RAINBOW,
    "dqn": _DQN,
    "data_efficient": _DATA_EFFICIENT,
    "curl_atari100k": {
        **_DATA_EFFICIENT,
        "auxiliary": {"curl": {"variant": "atari", "coeff": 1.0}},
    },
}

#: For ``data_efficient``: whose code it follows (``kaixhin``, ``dopamine``). For
#: ``curl_atari100k``: ``code`` follows the published code where it differs from the paper.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "kaixhin": _DATA_EFFICIENT,
    "dopamine": {
        "model": {"encoder": "nature"},
        "training": {
            "n_step": 10,
            "head_hidden": [512],
            "bias_sigma_fan": "in",
            "epsilon": [[0, 1.0], [1_600 * 4, 1.0], [3_600 * 4, 0.01]],
            "replay_capacity": 1_000_000,
        },
    },
    "code": {"training": {"auxiliary_in_priorities": True}},
}
