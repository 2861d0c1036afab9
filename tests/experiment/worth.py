"""Sweeps whose scores are known: the return of an episode is an option of the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

#: The plug-in of the environment; each episode has one step, which takes longer if the worth is
#: below the option `slow_below`.
_PLUGIN = """
import time

import gymnasium as gym
import numpy as np
import rlssl


class Worth(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self.worth = config["worth"]
        self.is_slow = self.worth < config.get("slow_below", 0.0)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self.is_slow:
            time.sleep(0.005)
        return np.zeros(2, np.float32), self.worth, True, False, {}


rlssl.register_env("lab/Worth", Worth)
"""

#: What every sweep over `env.worth` has; an iteration is short.
_SWEEP: Mapping[str, Any] = {
    "algorithm": "ppo",
    "plugins": ["worth"],
    "env": {"id": "lab/Worth"},
    "training": {"train_batch_size_per_learner": 128, "num_epochs": 1},
}


def write_sweep(folder: Path, name: str, **sections: Any) -> None:
    """Writes the plug-in, and the sweep NAME.yaml with further sections, into a folder."""
    spec = {"name": name, **_SWEEP, **sections}
    (folder / "worth.py").write_text(_PLUGIN)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
