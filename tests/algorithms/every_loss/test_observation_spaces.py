"""Every loss trains on every kind of observations, or is refused before a start."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tree
from gymnasium import spaces

from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_trial
from rlssl.plugins import load_plugins
from rlssl.registry import AUXILIARY_LOSSES, ENVIRONMENTS, register_env

#: Losses that need a data set; tests/auxiliary/imitation has their spaces.
NEED_DATA = {"behavior_cloning", "gail", "demonstration_progress"}

_BOOL: Any = np.bool_  # gymnasium's annotation lacks it
SPACES = {
    "dict": spaces.Dict(
        {
            "image": spaces.Box(0, 255, (3, 20, 24), np.uint8),
            "speed": spaces.Box(-1, 1, (2,), np.float64),
            "gear": spaces.Discrete(3),
        }
    ),
    "tuple": spaces.Tuple((spaces.Discrete(4), spaces.MultiBinary(3))),
    "nested": spaces.Dict(
        [  # not in the order of the alphabet
            ("seen", spaces.Tuple((spaces.Box(-1, 1, ()), spaces.Discrete(3, start=-2)))),
            ("camera", spaces.Dict({"left.eye": spaces.Box(0, 255, (16, 16, 3), np.uint8)})),
        ]
    ),
    "discrete": spaces.Discrete(7),
    "multi_discrete": spaces.MultiDiscrete([3, 5], start=[1, -4]),
    "gray_image": spaces.Box(0, 1, (16, 20, 1), np.float32),
    "unbounded_image": spaces.Box(-np.inf, np.inf, (3, 16, 16), np.float32),
    "boolean_image": spaces.Box(0, 1, (10, 10, 4), _BOOL),
    "number": spaces.Box(-np.inf, np.inf, (), np.float64),
    "integers": spaces.Box(0, 255, (6,), np.uint8),
    "constant": spaces.Box(2, 2, (3,), np.float32),
}

_OFF_POLICY = {
    "train_batch_size_per_learner": 32,
    "replay_capacity": 500,
    "agent_steps_per_iteration": 64,
    "learning_starts_agent_steps": 32,
    "updates_per_agent_step": 0.07,  # 2 updates
}
_ACTOR_CRITIC = {**_OFF_POLICY, "critic_hidden": [16], "actor_hidden": [16]}
_STEERING = spaces.Box(np.array([-1, -2], np.float32), np.array([1, 3], np.float32))
#: Algorithm -> its actions and settings of training.
ALGORITHMS: dict[str, tuple[gym.Space, dict[str, Any]]] = {
    "ppo": (
        spaces.MultiDiscrete([2, 3]),
        {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 1},
    ),
    "rainbow": (spaces.Discrete(3), {**_OFF_POLICY, "head_hidden": [16], "n_step": 3}),
    "sac": (_STEERING, _ACTOR_CRITIC),
    "ddpg": (_STEERING, {**_ACTOR_CRITIC, "n_step": 2, "replay": {"prioritized": True}}),
}
FAST = {("ppo", "tuple"), ("sac", "nested")}


class Sampled(gym.Env):
    """Random observations of a space, in episodes of 1 to 12 steps."""

    def __init__(self, space: str, algorithm: str) -> None:
        self.observation_space, self.action_space = SPACES[space], ALGORITHMS[algorithm][0]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 13))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.left -= 1
        reward = float(self.np_random.normal())
        ends = self.left == 0
        return self.observation_space.sample(), reward, ends and reward > 0, ends, {}


def document(algorithm: str, space: str, losses: dict[str, Any]) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "env": {"id": "test/sampled", "space": space, "algorithm": algorithm},
        "env_runners": {"num_envs": 4},
        "training": ALGORITHMS[algorithm][1],
        "auxiliary": losses,
    }


def is_refused(name: str, algorithm: str, space: str) -> bool:
    try:
        check_trial(load_spec(document(algorithm, space, {name: {}})))
    except SpecError as error:
        assert f"auxiliary.{name}" in str(error)
        return True
    return False


@pytest.mark.parametrize(
    "algorithm, space",
    [
        pytest.param(algorithm, space, marks=[] if (algorithm, space) in FAST else pytest.mark.slow)
        for algorithm in ALGORITHMS
        for space in SPACES
    ],
)
def test_losses_train_on_the_space_or_are_refused(algorithm: str, space: str) -> None:
    load_plugins()  # the built-in environments stay registered
    names = {name for name in AUXILIARY_LOSSES if not name.startswith("test_")} - NEED_DATA
    with ENVIRONMENTS.undone_afterwards():
        register_env("test/sampled", Sampled)
        kept: dict[str, Any] = {
            name: {} for name in sorted(names) if not is_refused(name, algorithm, space)
        }
        built = build_config(load_spec(document(algorithm, space, kept))).build_algo()
        result = built.train()
        built.stop()
    found = result["aux"]
    assert {"icm", "rnd", "deepmdp", "spr", "frame_order"} <= kept.keys() <= found.keys()
    values = tree.flatten({name: found[name] for name in kept})
    assert all(math.isfinite(value) for value in values)
