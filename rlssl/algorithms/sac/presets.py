"""Settings by name: partial specs, below those of a file."""

from collections.abc import Mapping
from typing import Any

#: SAC from pixels: the settings that Yarats et al. 2019 and CURL's code share.
_PIXELS: Mapping[str, Any] = {
    "model": {"encoder": "curl", "frame_stack": 3},
    "env_runners": {"num_envs": 1, "fragment_length": 1},
    "training": {
        "gamma": 0.99,
        "n_step": 1,
        "lr": 1e-3,
        "train_batch_size_per_learner": 128,
        "critic_hidden": [1024, 1024],
        "actor_hidden": [1024, 1024],
        "network_init": "orthogonal",
        "log_std_bounds": [-10.0, 2.0],
        "log_std_mode": "tanh",
        "initial_alpha": 0.1,
        "alpha_lr": 1e-4,
        "alpha_beta1": 0.5,
        "tau": 0.01,
        "encoder_tau": 0.05,
        "actor_update_every_updates": 2,
        "target_update_every_updates": 2,
        "replay_capacity": 100_000,
        "random_agent_steps": 1_000,
        "learning_starts_agent_steps": 1_000,
        "updates_per_agent_step": 1.0,
    },
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # CURL's code, `scripts/run.sh`. The paper has batches of 512.
    "curl": {
        **_PIXELS,
        "model": {**_PIXELS["model"], "augmentation": {"crop": {"size": 84}}},
        "training": {**_PIXELS["training"], "auxiliary_step": "separate"},
        "auxiliary": {"curl": {"variant": "dmc"}},
    },
    # Yarats et al. 2019, published code. At agent step 1,000 it makes 1,000 updates at once.
    "sac_ae": {
        **_PIXELS,
        "model": {**_PIXELS["model"], "encoder_config": {"tanh": True}},
        "training": {
            **_PIXELS["training"],
            "auxiliary_step": "separate",
            "updates_at_start": 1_000,
            "replay_capacity": 1_000_000,
        },
        "auxiliary": {"autoencoder": {"variant": "deterministic", "latent_penalty": 1e-6}},
    },
}

#: For ``curl``: where the published code and the paper differ.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "code": {"auxiliary": {"curl": {"double_encoder_step": True}}},
    "paper": {"training": {"train_batch_size_per_learner": 512}},
}
