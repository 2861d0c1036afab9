"""A captured and restored runner continues as if it had not been interrupted."""

import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils import EzPickle

from rlssl import PPOConfig
from rlssl.registry import register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from rlssl.rollouts.runner_state import SAMPLING_ATTRIBUTES, capture, open_episodes, restore
from rlssl.system.random_state import generators, set_generators, undisturbed_generators

LIMIT = 2**26
#: Of each finished episode.
COLUMNS = ("return", "length", "offset")


def runner_of(
    env: str, cls: Any = VectorEnvRunner, frame_stack: int = 1, vectorize: str = "native"
) -> Any:
    config = (
        PPOConfig()
        .environment(env)
        .model(frame_stack=frame_stack)
        .vectorization(vectorize)
        .env_runners(num_envs_per_env_runner=3)
        .debugging(seed=5)
    )
    return cls(config=config, worker_index=0)


def fingerprint(episodes: list[Any]) -> list[Any]:
    return [
        (
            np.asarray(episode.get_observations()).tobytes(),
            np.asarray(episode.get_actions()).tobytes(),
            np.asarray(episode.get_rewards()).tobytes(),
            np.asarray(episode.get_extra_model_outputs("action_logp")).tobytes(),
            episode.observations.lookback,
            (episode.t_started, episode.is_terminated, episode.is_truncated),
        )
        for episode in episodes
    ]


def scores(runner: Any) -> list[tuple[float, ...]]:
    metrics = runner.get_metrics().get("rlssl_episodes", {})
    columns = [np.atleast_1d(metrics[key].peek()) for key in COLUMNS if key in metrics]
    # Without a finished episode, RLlib gives nan.
    return [row for row in zip(*columns, strict=True) if not np.isnan(row[0])]


@pytest.mark.parametrize(
    "env, options",
    [
        ("CartPole-v1", {}),  # gymnasium's own vector environment
        ("CartPole-v1", {"vectorize": "sync", "frame_stack": 3}),
        ("CartPole-v1", {"cls": StockEnvRunner, "frame_stack": 2}),
        ("Pendulum-v1", {}),
        ("minatar/Breakout", {}),
        ("minatar/Seaquest", {"frame_stack": 2}),
        ("MiniGrid-Empty-5x5-v0", {}),
        ("MiniGrid-Dynamic-Obstacles-5x5-v0", {"frame_stack": 2}),
        ("dmc/cartpole-swingup", {}),
    ],
)
def test_restored_runner_samples_the_same_as_the_captured_one(
    env: str, options: dict[str, Any]
) -> None:
    runner = runner_of(env, **options)
    for _ in range(3):
        runner.sample(num_timesteps=70)
    runner.get_metrics()
    weights, state = runner.module.state_dict(), capture(runner, LIMIT)
    assert state.reason == ""
    expected = [fingerprint(runner.sample(num_timesteps=70)) for _ in range(3)]
    expected_scores = scores(runner)
    runner.stop()

    other = runner_of(env, **options)
    other.module.load_state_dict(weights)
    assert restore(other, state) == ""
    assert [fingerprint(other.sample(num_timesteps=70)) for _ in range(3)] == expected
    assert scores(other) == expected_scores
    other.stop()


class Incomplete(gym.Env, EzPickle):
    """Pickles its arguments only: a copy would silently start from the beginning."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: Any) -> None:
        EzPickle.__init__(self, config)
        self.config = config
        self.seeds: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


register_env("env-state-test/incomplete", Incomplete)


@pytest.mark.parametrize(
    "env, vectorize, reason",
    [
        ("env-state-test/incomplete", "sync", "Incomplete pickles its arguments"),
        ("CartPole-v1", "async", "other processes"),
        ("atari/Pong", "native", "cannot pickle"),
    ],
)
def test_a_state_that_cannot_be_saved_has_a_reason_and_its_open_episodes(
    env: str, vectorize: str, reason: str
) -> None:
    runner = runner_of(env, vectorize=vectorize)
    runner.sample(num_timesteps=12)
    state = capture(runner, LIMIT)
    runner.stop()
    assert state.sampling is None and reason in state.reason
    assert state.open_episodes == 3


def test_environments_that_start_again_get_new_seeds_each_time() -> None:
    seeds = []
    state = None
    for _ in range(3):
        runner = runner_of("env-state-test/incomplete", vectorize="sync")
        if state is not None:
            assert "pickles its arguments" in restore(runner, state)
        runner.sample(num_timesteps=6)
        seeds += [runner.env.envs[slot].unwrapped.seeds[0] for slot in range(3)]
        state = capture(runner, LIMIT)
        runner.stop()
    assert len(set(seeds)) == 9


def test_a_state_above_the_limit_is_not_saved() -> None:
    runner = runner_of("CartPole-v1")
    runner.sample(num_timesteps=12)
    size = len(capture(runner, LIMIT).sampling or b"")
    state = capture(runner, size // 2)
    assert state.sampling is None
    assert f"{size:,} bytes; the limit is {size // 2:,}" in state.reason
    runner.stop()


def test_only_used_rows_are_saved() -> None:
    runner = runner_of("minatar/Breakout")
    runner.sample(num_timesteps=3 * 400)
    # 3 environments x 2 rows of 4 x 10 x 10 bytes; 512 rows are allocated: 614,400 bytes.
    assert len(capture(runner, LIMIT).sampling or b"") < 60_000
    runner.stop()


def test_a_runner_that_has_not_sampled_has_no_open_episode() -> None:
    runner = runner_of("CartPole-v1")
    assert open_episodes(runner) == 0
    runner.sample(num_timesteps=3)
    assert open_episodes(runner) == 3
    runner.stop()


def test_draws_inside_do_not_change_the_generators() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    before = generators()
    expected = draw()
    set_generators(before)
    with undisturbed_generators():
        assert draw() == expected
    assert draw() == expected


#: Attributes that do not change while a runner samples, that RLlib saves, or that are not needed.
CONSTANT_OR_SAVED_ELSEWHERE = {
    "_callbacks",
    "_device",
    "_env_runner_state_server",
    "_env_to_module",
    "_half_batch_checks",  # from the environments
    "_final_error",  # a runner with a final error makes no checkpoint
    "_inference_s",  # logged in the same call, like _seconds and _num_env_calls
    "_isolated",  # from the environment
    "_ledger",  # its counts are in RLlib's metrics; consecutive faults restart at 0
    "_module_to_env",
    "_metrics_num_env_steps_sampled",
    "_metrics_num_try_env_step",
    "_zero_rewards",
    "_num_env_calls",
    "_numpy_policy",  # built in every call
    "_resets_at_once",  # from the environment
    "_replaced",  # within one step
    "_own_generators",  # in RunnerState.generators
    "_samplers",
    "_batch_check",
    "_seconds",
    "_seed",
    "_time_after_sampling",
    "_to_env",  # from the action space
    "_timeout_s",
    "_watch",
    "_weights_column",
    "_weights_seq_no",
    "config",
    "episodes_to_numpy",
    "metrics",
    "module",
    "num_env_steps_sampled_lifetime",
    "num_envs",
    "num_restarts",  # of this process
    "num_workers",
    "seeds",
    "settings",
    "spaces",
    "tune_trial_id",
    "worker",
    "worker_index",
}


@pytest.mark.parametrize("cls", [VectorEnvRunner, StockEnvRunner])
def test_every_attribute_of_a_runner_is_saved_or_listed_here(cls: Any) -> None:
    runner = runner_of("CartPole-v1", cls=cls, frame_stack=2)
    runner.sample(num_timesteps=20)
    runner.get_metrics()
    unknown = vars(runner).keys() - set(SAMPLING_ATTRIBUTES) - CONSTANT_OR_SAVED_ELSEWHERE
    assert not unknown, "add it to SAMPLING_ATTRIBUTES, or list it here with the reason"
    runner.stop()


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    from rlssl.experiment.checkpoints.exact_state import RunState

    runner = runner_of("CartPole-v1")
    runner.sample(num_timesteps=12)
    RunState(generators(), {0: capture(runner, LIMIT)}, []).save(tmp_path / "state.pkl")
    loaded = RunState.load(tmp_path / "state.pkl")
    assert loaded.open_episodes == 3
    expected = fingerprint(runner.sample(num_timesteps=12))
    other = runner_of("CartPole-v1")
    other.module.load_state_dict(runner.module.state_dict())
    assert restore(other, loaded.runners[0]) == ""
    assert fingerprint(other.sample(num_timesteps=12)) == expected
    runner.stop()
    other.stop()
