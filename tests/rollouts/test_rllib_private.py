"""The private names of RLlib that the runners rely on exist, and mean what they are taken for."""

import inspect
from typing import Any

import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.actor_manager import FaultTolerantActorManager, ResultOrError

from rlssl.rollouts import rllib_private
from tests.rollouts.counting import make_config, make_runner


@pytest.fixture(scope="module")
def stock() -> SingleAgentEnvRunner:
    return make_runner(SingleAgentEnvRunner, make_config({"id": "CartPole-v1"}, num_envs=1))


@pytest.mark.parametrize("name", rllib_private.ENV_RUNNER_METHODS)
def test_rllib_has_the_method(name: str) -> None:
    assert inspect.isfunction(getattr(SingleAgentEnvRunner, name))


@pytest.mark.parametrize("name", rllib_private.ENV_RUNNER_ATTRIBUTES)
def test_rllib_has_the_attribute(stock: SingleAgentEnvRunner, name: str) -> None:
    assert hasattr(stock, name)


def test_remote_results_come_through_the_managers_method() -> None:
    # Read, not run: a group starts Ray.
    source = inspect.getsource(EnvRunnerGroup.__init__)
    assert "self._worker_manager = FaultTolerantActorManager(" in source
    manager = FaultTolerantActorManager
    for caller in (manager.foreach_actor, manager.fetch_ready_async_reqs):
        assert f"self.{rllib_private.FETCH_RESULT}(" in inspect.getsource(caller)


def test_errors_of_remote_results_are_shown_once_however_often_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = ResultOrError(result=1), ResultOrError(error=ValueError("gone"))

    def fetch(manager: FaultTolerantActorManager, **kwargs: Any) -> Any:
        return [], [good, bad]

    monkeypatch.setattr(FaultTolerantActorManager, rllib_private.FETCH_RESULT, fetch)
    seen: list[BaseException] = []
    for _ in range(2):
        rllib_private.watch_remote_results(seen.append)
    fetched = getattr(FaultTolerantActorManager(), rllib_private.FETCH_RESULT)(remote_calls=[])
    assert fetched == ([], [good, bad])
    assert seen == [bad.get()]


def test_sampling_takes_the_arguments_that_ours_takes() -> None:
    arguments = inspect.signature(SingleAgentEnvRunner._sample).parameters
    assert list(arguments)[1:] == [
        "num_timesteps",
        "num_episodes",
        "explore",
        "random_actions",
        "force_reset",
    ]


@pytest.mark.parametrize("public, private", rllib_private.CONFIG_CONNECTORS.items())
def test_connectors_are_kept_under_the_private_name(public: str, private: str) -> None:
    config = PPOConfig()
    assert getattr(config, private) is None
    config.env_runners(**{public: lambda *args: []})
    assert getattr(config, private) is not None


@pytest.mark.parametrize("name", rllib_private.EPISODE_CALLBACKS)
def test_episode_callbacks_exist_as_methods_and_as_settings(name: str) -> None:
    assert hasattr(RLlibCallback, name)
    assert hasattr(PPOConfig(), f"callbacks_{name}")


def test_phantom_rows_are_announced_under_the_key() -> None:
    shared: dict = {}
    episode = SingleAgentEpisode(
        observations=[0, 1], actions=[0], rewards=[0.0], len_lookback_buffer=0
    )
    AddOneTsToEpisodesAndTruncate()(
        rl_module=None, batch={}, episodes=[episode.to_numpy()], shared_data=shared
    )
    assert shared[rllib_private.PHANTOM_ROW_KEY] is True
