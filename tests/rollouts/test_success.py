"""Success at any step of an episode, or at the last one: the same in runners and evaluations."""

import math
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.errors import SpecError
from rlssl.evaluation import evaluate_policy
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.registry import register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from rlssl.rollouts.base_env_runner import RunnerSettings
from tests.rollouts.counting import make_config, make_runner

#: The successes of the steps of four episodes; None: the step gives none.
EPISODES: tuple[tuple[float | None, ...], ...] = (
    (0.0, 1.0, 0.0),
    (None, 0.25, None),
    (None, None, None),
    (0.0, 0.0, 1.0),
)
#: Their highest and their last values.
EXPECTED = {"any": [1.0, 0.25, math.nan, 1.0], "last": [0.0, math.nan, math.nan, 1.0]}


class Reaching(gym.Env):
    """Moves its hand to the goal, and perhaps away again; each reset claims a success."""

    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: dict[str, Any]) -> None:
        self.episode, self.t = -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode, self.t = (self.episode + 1) % len(EPISODES), 0
        return np.zeros(1, np.float32), {"success": 1.0}

    def step(self, action: Any) -> Any:
        success = EPISODES[self.episode][self.t]
        self.t += 1
        info = {} if success is None else {"success": success}
        return np.full(1, self.t, np.float32), 1.0, self.t == 3, False, info


def same_step(config: dict[str, Any], num_envs: int) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Reaching({})] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


register_env("success-test/next", Reaching)
register_env("success-test/same", Reaching, make_vec=same_step)


@pytest.mark.parametrize("success", ["any", "last"])
@pytest.mark.parametrize(
    "cls, kind", [(VectorEnvRunner, "next"), (VectorEnvRunner, "same"), (StockEnvRunner, "next")]
)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_runners_count_the_steps_that_the_setting_names(
    cls: type, kind: str, num_envs: int, success: str
) -> None:
    config = make_config({"id": f"success-test/{kind}"}, num_envs)
    config.vectorize = "native"
    config.seeded_evaluation = {"success": success}
    runner = make_runner(cls, config)
    # Fragments end within episodes.
    for _ in range(16):
        runner.sample(num_timesteps=num_envs)
    told = runner.get_metrics()["rlssl_episodes"]["success"].peek()
    expected = np.repeat(EXPECTED[success], num_envs)
    np.testing.assert_array_equal(told[: len(expected)], expected)


@pytest.mark.parametrize("success", ["any", "last", None])
def test_evaluations_count_the_same_steps(success: str | None) -> None:
    settings = {} if success is None else {"success": success}
    policy: Any = SimpleNamespace(
        settings=settings, reset=lambda: None, act=lambda observation, explore: 0
    )
    # One environment plays seeds 0, 8, 16 and 24 in turn, the other ones play one episode each.
    records = evaluate_policy(policy, {"id": "success-test/next"}, seeds=range(25), explore=False)
    told = [records[seed].success for seed in (0, 8, 16, 24)]
    np.testing.assert_array_equal(told, EXPECTED[success or "any"])


def test_the_setting_reaches_the_config_from_the_spec() -> None:
    document = {"name": "x", "algorithm": "ppo", "env": {"id": "CartPole-v1"}}
    assert RunnerSettings.of(build_config(load_spec(document))).success == "any"
    spec = load_spec({**document, "evaluation": {"success": "last"}})
    assert RunnerSettings.of(build_config(spec)).success == "last"
    with pytest.raises(SpecError, match=r"evaluation\.success must be"):
        load_spec({**document, "evaluation": {"success": "first"}})
    with pytest.raises(SpecError, match=r"evaluation\.success must be 'any' or 'last'; got 'all'"):
        PPOConfig().evaluation(success="all")  # type: ignore[arg-type]
