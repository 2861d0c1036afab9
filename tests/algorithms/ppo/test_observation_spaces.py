"""Every loss trains on every kind of observations, or is refused before a start."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tree
from gymnasium import spaces

from rlssl import PPOConfig
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_trial
from rlssl.plugins import load_plugins
from rlssl.registry import AUXILIARY_LOSSES, ENVIRONMENTS, register_env

#: Losses that need a data set; tests/auxiliary/imitation has their spaces.
NEED_DATA = {"behavior_cloning", "gail", "demonstration_progress"}

SPACES = {
    "dict": spaces.Dict(
        {
            "image": spaces.Box(0, 255, (3, 20, 24), np.uint8),
            "speed": spaces.Box(-1, 1, (2,), np.float64),
            "gear": spaces.Discrete(3),
        }
    ),
    "tuple": spaces.Tuple((spaces.Discrete(4), spaces.MultiBinary(3))),
    "discrete": spaces.Discrete(7),
    "multi_discrete": spaces.MultiDiscrete([3, 5]),
    "gray_image": spaces.Box(0, 1, (16, 20, 1), np.float32),
}


class Sampled(gym.Env):
    """Random observations of a space, in episodes of 1 to 12 steps."""

    action_space = spaces.MultiDiscrete([2, 3])

    def __init__(self, space: str) -> None:
        self.observation_space = SPACES[space]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 13))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        reward = float(self.np_random.normal())
        ends = self.left == 0
        return self.observation_space.sample(), reward, ends and reward > 0, ends, {}


def is_refused(name: str, space: str) -> bool:
    document = {"algorithm": "ppo", "env": {"id": "test/sampled", "space": space}}
    try:
        check_trial(load_spec({**document, "auxiliary": {name: {}}}))
    except SpecError as error:
        assert f"auxiliary.{name}" in str(error)
        return True
    return False


@pytest.mark.parametrize(
    "space",
    [pytest.param(name, marks=[] if name == "tuple" else pytest.mark.slow) for name in SPACES],
)
def test_losses_train_on_the_space_or_are_refused(space: str) -> None:
    load_plugins()  # the built-in environments stay registered
    names = {name for name in AUXILIARY_LOSSES if not name.startswith("test_")} - NEED_DATA
    with ENVIRONMENTS.undone_afterwards():
        register_env("test/sampled", Sampled)
        kept: dict[str, Any] = {name: {} for name in sorted(names) if not is_refused(name, space)}
        config = PPOConfig().environment({"id": "test/sampled", "space": space})
        config.set_auxiliary(kept).training(
            train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1
        )
        config.env_runners(num_envs_per_env_runner=2)
        algorithm = config.build_algo()
        found = algorithm.train()["aux"]
        algorithm.stop()
    assert {"icm", "rnd", "deepmdp", "spr", "frame_order"} <= kept.keys() <= found.keys()
    values = tree.flatten({name: found[name] for name in kept})
    assert all(math.isfinite(value) for value in values)
