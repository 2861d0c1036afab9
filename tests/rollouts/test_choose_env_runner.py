"""The choice of the runner for a config, and its reason."""

import logging
from typing import Any

import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

from rlssl.rollouts import StockEnvRunner, VectorEnvRunner, choose_env_runner


class CountsSteps(RLlibCallback):
    def on_episode_step(self, **kwargs: Any) -> None: ...


class OnlyResults(RLlibCallback):
    def on_train_result(self, **kwargs: Any) -> None: ...


def nothing(*args: Any, **kwargs: Any) -> list:
    return []


@pytest.mark.parametrize(
    "config",
    [
        PPOConfig(),
        PPOConfig().callbacks(OnlyResults),
        PPOConfig().callbacks(on_sample_end=nothing, on_environment_created=nothing),
    ],
    ids=["plain", "results", "sample end"],
)
def test_supported_configs_get_the_vectorized_runner(config: PPOConfig) -> None:
    assert choose_env_runner(config) == (VectorEnvRunner, None)


@pytest.mark.parametrize(
    "config, reason",
    [
        (PPOConfig().env_runners(env_to_module_connector=nothing), "env_to_module_connector"),
        (PPOConfig().env_runners(module_to_env_connector=nothing), "module_to_env_connector"),
        (PPOConfig().callbacks(CountsSteps), "on_episode_step"),
        (PPOConfig().callbacks([OnlyResults, CountsSteps]), "on_episode_step"),
        (PPOConfig().callbacks(on_episode_end=nothing), "on_episode_end"),
        (PPOConfig().env_runners(episodes_to_numpy=False), "episodes_to_numpy=False"),
        (PPOConfig().rl_module(model_config={"use_lstm": True}), "model.use_lstm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsupported_configs_get_the_stock_runner(config: PPOConfig, reason: str) -> None:
    assert choose_env_runner(config) == (StockEnvRunner, reason)


def test_the_reason_is_logged_once(caplog: Any) -> None:
    config = PPOConfig().callbacks(on_episode_created=nothing)
    with caplog.at_level(logging.WARNING, logger="rlssl"):
        choose_env_runner(config)
        choose_env_runner(config)
    (record,) = caplog.records
    assert "does not support on_episode_created" in record.getMessage()
