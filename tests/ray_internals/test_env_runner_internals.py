"""The private names of RLlib that the runners use exist and have the expected meaning."""

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils.actor_manager import FaultTolerantActorManager, ResultOrError
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rlssl.ray_internals import env_runner
from tests.rollouts.counting import make_config, make_runner


@pytest.fixture(scope="module")
def stock() -> SingleAgentEnvRunner:
    return make_runner(SingleAgentEnvRunner, make_config({"id": "CartPole-v1"}, num_envs=1))


@pytest.mark.parametrize("name", env_runner.ENV_RUNNER_METHODS)
def test_rllib_has_the_method(name: str) -> None:
    assert inspect.isfunction(getattr(SingleAgentEnvRunner, name))


@pytest.mark.parametrize("name", env_runner.ENV_RUNNER_ATTRIBUTES)
def test_rllib_has_the_attribute(stock: SingleAgentEnvRunner, name: str) -> None:
    assert hasattr(stock, name)


def test_remote_results_come_through_the_managers_method() -> None:
    # Read, not run: a group starts Ray.
    source = inspect.getsource(EnvRunnerGroup.__init__)
    assert f"self.{env_runner.WORKER_MANAGER} = FaultTolerantActorManager(" in source
    manager = FaultTolerantActorManager
    for caller in (manager.foreach_actor, manager.fetch_ready_async_reqs):
        assert f"self.{env_runner.FETCH_RESULT}(" in inspect.getsource(caller)


def test_learners_are_called_through_the_groups_manager() -> None:
    # Read, not run: a group with remote Learners starts Ray.
    source = inspect.getsource(LearnerGroup.__init__)
    assert f"self.{env_runner.LEARNER_MANAGER} = None" in source
    assert f"self.{env_runner.LEARNER_MANAGER} = FaultTolerantActorManager(" in source


def test_errors_of_remote_results_are_reported_once_even_if_watched_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = ResultOrError(result=1), ResultOrError(error=ValueError("gone"))

    def fetch(manager: FaultTolerantActorManager, **kwargs: Any) -> Any:
        return [], [good, bad]

    monkeypatch.setattr(FaultTolerantActorManager, env_runner.FETCH_RESULT, fetch)
    seen: list[BaseException] = []
    for _ in range(2):
        env_runner.watch_remote_results(seen.append)
    fetched = getattr(FaultTolerantActorManager(), env_runner.FETCH_RESULT)(remote_calls=[])
    assert fetched == ([], [good, bad])
    assert seen == [bad.get()]


def test_rllibs_sample_has_the_same_arguments_as_ours() -> None:
    arguments = inspect.signature(SingleAgentEnvRunner._sample).parameters
    assert list(arguments)[1:] == [
        "num_timesteps",
        "num_episodes",
        "explore",
        "random_actions",
        "force_reset",
    ]


@pytest.mark.parametrize("public, private", env_runner.CONFIG_CONNECTORS.items())
def test_connectors_are_kept_under_the_private_name(public: str, private: str) -> None:
    config = PPOConfig()
    assert getattr(config, private) is None
    config.env_runners(**{public: lambda *args: []})
    assert getattr(config, private) is not None


@pytest.mark.parametrize("name", env_runner.EPISODE_CALLBACKS)
def test_episode_callbacks_exist_as_methods_and_as_settings(name: str) -> None:
    assert hasattr(RLlibCallback, name)
    assert hasattr(PPOConfig(), f"callbacks_{name}")


def test_phantom_rows_set_the_key() -> None:
    shared: dict = {}
    episode = SingleAgentEpisode(
        observations=[0, 1], actions=[0], rewards=[0.0], len_lookback_buffer=0
    )
    AddOneTsToEpisodesAndTruncate()(
        rl_module=None, batch={}, episodes=[episode.to_numpy()], shared_data=shared
    )
    assert shared[env_runner.PHANTOM_ROW_KEY] is True


def test_an_episode_built_without_the_constructor_equals_one_built_with_it() -> None:
    box = gym.spaces.Box(0, 1, (2,))
    discrete: gym.Space = gym.spaces.Discrete(3)
    reward_space = gym.spaces.Box(-np.inf, np.inf, shape=(), dtype=np.float32)
    data: dict[str, tuple[Any, Any]] = {
        "observations": (np.zeros((4, 2), np.float32), box),
        "infos": ([{}, {}, {}, {}], None),
        "actions": (np.zeros(3, np.int64), discrete),
        "rewards": (np.zeros(3, np.float32), reward_space),
    }
    theirs = SingleAgentEpisode(
        "one",
        **{key: InfiniteLookbackBuffer(*(d, 1, s)) for key, (d, s) in data.items()},
        observation_space=box,
        action_space=discrete,
        extra_model_outputs={"logp": InfiniteLookbackBuffer(np.zeros(2), 0)},
        terminated=True,
        t_started=5,
    )
    structs = {key: get_base_struct_from_space(space) for key, (_, space) in data.items()}
    ours = env_runner.numpy_episode(
        "one",
        **{key: env_runner.lookback_buffer(d, 1, s, structs[key]) for key, (d, s) in data.items()},
        extra_model_outputs={
            "logp": env_runner.lookback_buffer(np.zeros(2), 0, None, None),
        },
        num_steps=2,
        t_started=5,
        terminated=True,
        truncated=False,
    )
    ours.validate()
    for name in SingleAgentEpisode.__slots__:
        assert_alike(getattr(ours, name), getattr(theirs, name))


def assert_alike(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_alike(ours[key], theirs[key])
    elif isinstance(theirs, InfiniteLookbackBuffer):
        assert_alike(vars(ours), vars(theirs))
    elif isinstance(theirs, np.ndarray):
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize(
    "how", [{"reduce": "item_series"}, {"reduce": "min", "window": 2}, {"window": 2}], ids=str
)
def test_values_logged_in_one_call_equal_values_logged_one_by_one(how: dict[str, Any]) -> None:
    one_by_one, at_once = MetricsLogger(), MetricsLogger()
    for value in (3.0, 1.0, 2.0):
        one_by_one.log_value(("a", "b"), value, **how)
    env_runner.log_values(at_once, ("a", "b"), [3.0, 1.0, 2.0], **how)
    env_runner.log_values(at_once, "never", [])
    logged, expected = (logger.reduce()["a"]["b"].peek() for logger in (at_once, one_by_one))
    assert logged == expected
