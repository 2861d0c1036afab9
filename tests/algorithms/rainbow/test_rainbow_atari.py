"""The presets for Atari train on stored frames, with stacking and augmentation."""

from typing import Any

import numpy as np
import pytest

from rlssl.algorithms.rainbow.rainbow import Rainbow
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.policy import Policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("own_ray")]


@pytest.mark.parametrize(
    "layers",
    [
        {"preset": "curl_atari100k", "variant": "code"},
        {"preset": "data_efficient", "variant": "dopamine"},
        {"preset": "dqn"},
    ],
    ids=lambda layers: "-".join(layers.values()),
)
def test_preset_trains_and_its_policy_acts(layers: dict[str, Any]) -> None:
    training = {
        "replay_capacity": 400,
        "learning_starts_agent_steps": 40,
        "updates_per_agent_step": 0.5,
        "agent_steps_per_iteration": 60,
    }
    document = {"algorithm": "rainbow", "env": "atari/Pong", "training": training, **layers}
    algorithm: Rainbow = build_config(load_spec(document)).build_algo()
    try:
        result = algorithm.train()
        policy = Policy.from_algorithm(algorithm)
        batch = algorithm.replay.sample(8, beta=0.5)
    finally:
        algorithm.stop()
    assert result["updates"] == (result["agent_steps"] - 40) // 2
    assert result["env_steps"] == 4 * result["agent_steps"]
    assert np.isfinite(result["learners"]["default_policy"]["loss"])
    assert ("curl" in result["aux"]) == layers["preset"].startswith("curl")
    assert batch["obs"].shape == (8, 4, 84, 84) and batch["obs"].dtype == np.uint8
    action = policy.act(np.zeros(policy.observation_space.shape, np.uint8))
    assert policy.action_space.contains(action)
