"""Actions that an algorithm cannot choose are refused in words about actions, before a start."""

import gymnasium as gym
import numpy as np
import pytest

from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_trial
from rlssl.plugins import load_plugins
from rlssl.registry import ALGORITHMS, ENVIRONMENTS, register_env

OBSERVATIONS = gym.spaces.Box(-1, 1, (3,), np.float32)
BOX, NESTED = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Dict({"a": gym.spaces.Discrete(2)})
#: Algorithm -> what it can choose.
CHOOSES = {
    "a3c": "Discrete or MultiDiscrete",
    "bc": "Discrete or MultiDiscrete",
    "dagger": "Discrete or MultiDiscrete",
    "iql": "Discrete or MultiDiscrete",
    "ppo": "Discrete or MultiDiscrete",
    "pretrain": "Discrete or MultiDiscrete",
    "rainbow": "Discrete actions",
    "ddpg": "continuous actions",
    "sac": "continuous actions",
}
#: Spaces that no algorithm can choose from.
UNSUPPORTED = [
    gym.spaces.MultiBinary(4),
    gym.spaces.MultiBinary([2, 3]),
    NESTED,
    gym.spaces.Tuple([gym.spaces.Discrete(2), BOX]),
    gym.spaces.Box(-1, 1, (2, 2)),
    gym.spaces.Box(0, 5, (2,), np.int64),
    gym.spaces.MultiDiscrete(np.array([[2, 2], [2, 2]])),
    gym.spaces.MultiDiscrete([2, 2], start=[1, 0]),
    gym.spaces.Text(3),
    gym.spaces.Sequence(gym.spaces.Discrete(2)),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", [*UNSUPPORTED, gym.spaces.Discrete(3, start=1)], ids=repr)
def test_the_message_names_the_algorithm_what_it_needs_and_the_space(
    algorithm: str, space: gym.Space
) -> None:
    with pytest.raises(SpecError) as caught:
        ALGORITHMS[algorithm]().adapt_to(EnvSpaces(OBSERVATIONS, space))
    message = str(caught.value)
    assert message.startswith(f"algorithm '{algorithm}' needs {CHOOSES[algorithm]}")
    assert f"got {space}. " in message


@pytest.mark.parametrize("algorithm", ["ppo", "a3c"])
@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 3]), BOX], ids=repr
)
def test_all_other_actions_are_taken_by_ppo_and_a3c(algorithm: str, space: gym.Space) -> None:
    ALGORITHMS[algorithm]().adapt_to(EnvSpaces(OBSERVATIONS, space))


class Switches(gym.Env):
    observation_space, action_space = OBSERVATIONS, gym.spaces.MultiBinary(4)

    def __init__(self) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple:
        return np.zeros(3, np.float32), {}

    def step(self, action: object) -> tuple:
        return np.zeros(3, np.float32), 0.0, False, False, {}


def test_a_run_with_multi_binary_actions_is_refused_with_the_fix() -> None:
    load_plugins()  # the built-in environments stay registered
    with ENVIRONMENTS.undone_afterwards():
        register_env("test/switches", Switches)
        with pytest.raises(SpecError) as caught:
            check_trial(load_spec({"algorithm": "ppo", "env": "test/switches"}))
    assert str(caught.value) == (
        "algorithm 'ppo' needs Discrete or MultiDiscrete actions that count from 0, or a floating "
        "Box of one dimension; got MultiBinary(4). Declare MultiDiscrete([2] * 4) in the "
        "environment instead, which has the same actions."
    )
