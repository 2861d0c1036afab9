"""A search for success is refused if the environment does not say when it has succeeded."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.environments.success_check import tells_success
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_sweep
from rlssl.registry import ENVIRONMENTS, register_env


class Steps(gym.Env):
    """Ends after some steps, with some info at the end."""

    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: Any) -> None:
        self.length, self.info, self.t = config["length"], config["info"], 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        is_end = self.t == self.length
        return np.zeros(2, np.float32), 0.0, is_end, False, dict(self.info) if is_end else {}


@pytest.fixture(autouse=True)
def steps() -> Iterator[None]:
    with ENVIRONMENTS.undone_afterwards():
        register_env("success-test/steps", Steps)
        yield


@pytest.mark.parametrize(
    ("length", "info", "told"),
    [
        (50, {"is_success": False}, True),
        (50, {"success": 0.25}, True),
        (50, {"success": None, "other": 1}, False),
        (10**9, {"success": True}, None),
    ],
)
def test_one_episode_shows_whether_success_is_told(length: int, info: Any, told: Any) -> None:
    env = {"id": "success-test/steps", "length": length, "info": info}
    assert tells_success(env) is told


@pytest.mark.parametrize("key", ["objective", "stop"])
def test_such_a_sweep_is_refused(key: str) -> None:
    env: dict[str, Any] = {"id": "success-test/steps", "length": 50, "info": {}}
    sections: dict[str, dict[str, Any]] = {
        "objective": {"objective": {"metric": "success_rate"}, "stop": {"env_steps": 100}},
        "stop": {"stop": {"env_steps": 100, "success_rate": 0.5}},
    }
    section = sections[key]
    document = {"algorithm": "ppo", "env": env, "search": {"training.lr": {"grid": [0.1, 0.2]}}}
    with pytest.raises(SpecError, match=rf"{key}.* success_rate: an episode of success-test/steps"):
        check_sweep(load_spec({**document, **section}))
    env["info"] = {"is_success": True}
    assert len(check_sweep(load_spec({**document, **section}))) == 2
