"""Settings by name: partial specs, below those of a file."""

from collections.abc import Mapping
from typing import Any

#: The critics read observations directly, so that they share no layer.
_PLAIN: Mapping[str, Any] = {"encoder": "mlp", "encoder_config": {"hidden": []}}

#: Each part of an observation goes into the first layer as it is.
_AS_IT_IS: Mapping[str, Any] = {"config": {"hidden": []}}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Lillicrap et al. 2015, vectors: the first layer of 400 units reads only observations. All
    # layers but the last start uniform in +-1/sqrt(inputs).
    "lillicrap": {
        "model": {
            "encoder": "mlp",
            "encoder_config": {"hidden": [400], "activation": "relu", "init": "fan_in"},
        },
        "training": {
            "critic_hidden": [300],
            "actor_hidden": [300],
            "network_init": "fan_in",
            "final_bound": 3e-3,
            "lr": 1e-3,
            "actor_lr": 1e-4,
            "critic_weight_decay": 1e-2,
            "tau": 1e-3,
            "train_batch_size_per_learner": 64,
            "exploration": "ornstein_uhlenbeck",
        },
    },
    # Fujimoto et al. 2018, published code, but with 1,000 random steps instead of 25,000.
    "td3": {
        "model": _PLAIN,
        "training": {
            "num_critics": 2,
            "critic_hidden": [256, 256],
            "actor_hidden": [256, 256],
            "lr": 3e-4,
            "tau": 0.005,
            "train_batch_size_per_learner": 256,
            "target_noise_std": 0.2,
            "target_noise_clip": 0.5,
            "exploration_std": 0.1,
            "actor_update_every_updates": 2,
            "target_update_every_updates": 2,
        },
    },
    # Andrychowicz et al. 2017, published code, for `robotics/Fetch*`: rewards of -1 and 0, episodes
    # of 50 steps. Two episodes, then 40 updates, then a step of the target networks. The published
    # runs have 19 workers, here is one. The critics read actions after the first layer.
    "her": {
        "model": {
            "encoder": "dict",
            "encoder_config": {
                "hidden": 256,
                "encoders": dict.fromkeys(
                    ("observation", "achieved_goal", "desired_goal"), _AS_IT_IS
                ),
            },
            "normalize_observations": {"min_std": 0.01, "clip": 5.0},
        },
        "env_runners": {"num_envs": 2, "fragment_length": 50},
        "training": {
            "relabel": {"strategy": "future", "k": 4},
            "critic_hidden": [256, 256],
            "actor_hidden": [256, 256],
            "lr": 1e-3,
            "gamma": 0.98,
            "target_min": -50.0,
            "target_max": 0.0,
            "action_l2": 1.0,
            "exploration_std": 0.2,
            "random_action_share": 0.3,
            "random_agent_steps": 0,
            "learning_starts_agent_steps": 100,
            "updates_per_agent_step": 0.4,
            "target_update_every_updates": 40,
            "tau": 0.05,
            "train_batch_size_per_learner": 256,
            "replay_capacity": 1_000_000,
        },
    },
    # Yarats et al. 2021, published code, "medium" tasks.
    "drq_v2": {
        "model": {
            "encoder": "curl",
            "encoder_config": {"tanh": True, "centered": True, "init": "orthogonal"},
            "frame_stack": 3,
            "augmentation": {"shift_bilinear": {"pad": 4}},
        },
        "env_runners": {"num_envs": 1, "fragment_length": 2},
        "training": {
            "num_critics": 2,
            "critic_hidden": [1024, 1024],
            "actor_hidden": [1024, 1024],
            "network_init": "orthogonal",
            "lr": 1e-4,
            "tau": 0.01,
            "n_step": 3,
            "train_batch_size_per_learner": 256,
            "target_actor": False,
            "target_encoder": False,
            "reuse_features": True,
            "target_noise_std": None,
            "target_noise_clip": 0.3,
            "actor_noise": True,
            "actor_critics": "min",
            # The published code counts agent steps; an agent step is 2 frames (env steps).
            "exploration_std_by_agent_steps": [[0, 1.0], [500_000, 0.1]],
            "actor_update_every_updates": 1,
            "target_update_every_updates": 1,
            "updates_per_agent_step": 0.5,
            # 4,000 seed frames (env steps), which are 2,000 agent steps at an action repeat of 2.
            "random_agent_steps": 2_000,
            "learning_starts_agent_steps": 2_000,
            "replay_capacity": 1_000_000,
        },
    },
}

#: For ``drq_v2``: the number of agent steps over which the noise falls.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    name: {"training": {"exploration_std_by_agent_steps": [[0, 1.0], [agent_steps, 0.1]]}}
    for name, agent_steps in (("easy", 100_000), ("medium", 500_000), ("hard", 2_000_000))
}
