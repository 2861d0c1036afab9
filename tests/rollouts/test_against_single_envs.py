"""VectorEnvRunner against a slow loop over single environments: NEXT_STEP, SAME_STEP, halves.

Unlike RLlib's runner, the loop supports soft terminations, learning rewards and stacked frames.
"""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.core.columns import Columns

from rlssl.connectors.frame_stack import stack_windows
from rlssl.errors import EnvironmentFaultError
from rlssl.registry import register_env
from rlssl.rollouts import VectorEnvRunner
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv
from tests.rollouts.counting import COUNTING, CountingEnv, make_config, make_runner

SAME_STEP, ASYNC = "rollouts-test/same-step", "rollouts-test/async"

#: Id of the environment, and whether the runner uses double buffering.
KINDS = {"next step": (COUNTING, False), "same step": (SAME_STEP, False), "halves": (ASYNC, True)}


def vector(
    config: dict[str, Any], num_envs: int, cls: type[SyncVectorEnv], mode: AutoresetMode
) -> SyncVectorEnv:
    base = config["seed"] or 0
    makers = [lambda i=i: CountingEnv({**config, "seed": base + i}) for i in range(num_envs)]
    return cls(makers, autoreset_mode=mode)


class StepsAsync(SyncVectorEnv):
    """Steps in ``step_wait``; refuses all other calls before it."""

    actions: Any = None

    def step_async(self, actions: Any) -> None:
        assert self.actions is None, "a step is pending"
        self.actions = np.copy(actions)

    def step_wait(self) -> Any:
        assert self.actions is not None, "no step is pending"
        actions, self.actions = self.actions, None
        return self.step(actions)

    def reset(self, **kwargs: Any) -> Any:
        assert self.actions is None, "a step is pending"
        return super().reset(**kwargs)


register_env(
    SAME_STEP,
    CountingEnv,
    make_vec=lambda config, n: vector(config, n, SyncVectorEnv, AutoresetMode.SAME_STEP),
)
register_env(
    ASYNC,
    CountingEnv,
    make_vec=lambda config, n: vector(config, n, StepsAsync, AutoresetMode.NEXT_STEP),
)


@dataclass
class Learned:
    """A learning episode of the slow loop."""

    observations: list[np.ndarray]
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False


def act(module: Any, observations: list[np.ndarray], frames: int) -> int:
    """The forced action on the stacked last frames."""
    padded = [observations[0]] * (frames - 1) + observations
    stacked = stack_windows(np.stack(padded[-frames:]), frames, 0)
    batch = {Columns.OBS: torch.from_numpy(stacked)}
    return int(module.forward_exploration(batch)[Columns.ACTIONS][0])


def play(env: gym.Env, module: Any, steps: int, frames: int) -> list[Learned]:
    """Learning episodes of one environment; the last one is unfinished."""
    episodes = [Learned([env.reset()[0]])]
    for _ in range(steps):
        now = episodes[-1]
        action = act(module, now.observations, frames)
        observation, reward, terminated, truncated, info = env.step(action)
        now.observations.append(observation)
        now.actions.append(action)
        now.rewards.append(info.get("learning_reward", reward))
        over = terminated or truncated
        if over or info.get("soft_terminated"):
            now.terminated, now.truncated = bool(terminated or not over), bool(truncated)
            episodes.append(Learned([env.reset()[0] if over else observation]))
    return episodes


def collect(samples: list[list[Any]], num_envs: int, frames: int) -> list[list[Learned]]:
    """The runner's chunks joined, by environment."""
    by_id: dict[str, Learned] = {}
    slots: list[list[Learned]] = [[] for _ in range(num_envs)]
    for chunk in (chunk for sample in samples for chunk in sample):
        chunk.validate()
        observations = list(chunk.get_observations())
        if chunk.id_ not in by_id:
            assert chunk.t_started == 0
            by_id[chunk.id_] = Learned(observations[:1])
            slots[int(observations[0][0])].append(by_id[chunk.id_])
        episode = by_id[chunk.id_]
        assert not (episode.terminated or episode.truncated)
        assert chunk.t_started == len(episode.actions)
        # The frames before a chunk's first observation are those that its stack needs.
        padded = [episode.observations[0]] * (frames - 1) + episode.observations
        before = chunk.observations.data[: chunk.observations.lookback][-(frames - 1) :]
        if frames > 1:
            np.testing.assert_array_equal(before, padded[-frames:-1])
        np.testing.assert_array_equal(observations[0], episode.observations[-1])
        episode.observations += observations[1:]
        episode.actions += chunk.get_actions().tolist()
        episode.rewards += chunk.get_rewards().tolist()
        episode.terminated, episode.truncated = chunk.is_terminated, chunk.is_truncated
    return slots


def assert_prefix(actual: list[Learned], expected: list[Learned]) -> None:
    for ours, theirs in zip(actual, expected, strict=False):
        steps = len(ours.actions)
        if ours is actual[-1] and not (ours.terminated or ours.truncated):
            assert steps <= len(theirs.actions)
        else:
            flags = (steps, ours.terminated, ours.truncated)
            assert flags == (len(theirs.actions), theirs.terminated, theirs.truncated)
        np.testing.assert_array_equal(ours.observations, theirs.observations[: steps + 1])
        assert ours.actions == theirs.actions[:steps]
        assert ours.rewards == theirs.rewards[:steps]


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=3),
    soft=st.sets(st.integers(1, 5), max_size=2),
    clip=st.sampled_from([None, 2.0]),
    num_envs=st.integers(2, 5),
    fragments=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    frames=st.integers(1, 3),
)
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_those_of_single_environments(
    kind: str,
    lengths: list[list[int]],
    soft: set[int],
    clip: float | None,
    num_envs: int,
    fragments: list[int],
    frames: int,
) -> None:
    env_id, halved = KINDS[kind]
    options = {"lengths": lengths, "soft": sorted(soft), "clip": clip}
    config = make_config({"id": env_id, **options}, num_envs, frames)
    config.vectorize, config.double_buffering = "native", halved or None
    runner = make_runner(VectorEnvRunner, config)
    samples = [runner.sample(num_timesteps=count) for count in fragments]
    assert isinstance(runner.env.unwrapped, DoubleBufferedVectorEnv) == halved
    steps = [sum(map(len, sample)) for sample in samples]
    # The last vector step may give more agent steps than requested.
    assert all(0 <= n - count < num_envs for n, count in zip(steps, fragments, strict=True))
    slots = collect(samples, num_envs, frames)
    total = sum(steps)
    for slot, episodes in enumerate(slots):
        env = CountingEnv({**options, "seed": slot})
        assert_prefix(episodes, play(env, runner.module, total, frames))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_whole_episodes(kind: str) -> None:
    env_id, halved = KINDS[kind]
    options = {"lengths": [[3, 2]], "soft": [1], "clip": 1.0}
    config = make_config({"id": env_id, **options}, num_envs=2)
    config.vectorize, config.double_buffering = "native", halved or None
    runner = make_runner(VectorEnvRunner, config)
    runner.sample(num_timesteps=20)
    series = {k: v.peek() for k, v in runner.get_metrics()["rlssl_episodes"].items()}
    # 1 + 2 + 3, then 1 + 2, in both environments. Clipping and soft terminations change no score.
    assert series["return"] == [6.0, 6.0, 3.0, 3.0, 6.0, 6.0, 3.0, 3.0]
    assert series["length"] == [3, 3, 2, 2, 3, 3, 2, 2]
    # Only environment 0 has a success: 1 in even episodes, 0 in odd ones.
    assert [s for s in series["success"] if not np.isnan(s)] == [1.0, 0.0, 1.0, 0.0]
    # Agent steps count one by one, so no two episodes end at the same offset.
    assert series["offset"] == sorted(set(series["offset"]))


def test_pending_steps_are_finished_when_episodes_are_requested() -> None:
    config = make_config({"id": ASYNC, "lengths": [[2], [5]]}, num_envs=4)
    config.vectorize, config.double_buffering = "native", True
    runner = make_runner(VectorEnvRunner, config)
    for _ in range(3):
        chunks = runner.sample(num_episodes=3)
        assert len(chunks) == 3 and all(chunk.is_done for chunk in chunks)


def test_a_failure_in_one_half_restarts_both_and_counts_the_lost_steps() -> None:
    env = {"id": ASYNC, "lengths": [[9]], "fail": (3, 0, 4)}
    config = make_config(env, num_envs=4)
    config.vectorize, config.double_buffering = "native", True
    runner = make_runner(VectorEnvRunner, config)
    chunks = runner.sample(num_timesteps=200)
    metrics = runner.get_metrics()
    counts = {k: v.peek() for k, v in metrics["faults"].items()}
    # All four episodes are dropped. The new environments have other seeds and do not fail.
    assert counts == {"env_crashes": 1, "episodes_dropped": 4}
    assert sum(map(len, chunks)) == metrics["num_env_steps_sampled"].peek() == 200
    # No chunk has the 4 steps of each of these episodes.
    assert all(chunk.get_observations(0)[0] != 3 for chunk in chunks)


def test_final_observations_of_same_step_autoreset_are_checked() -> None:
    class EndsWithNan(CountingEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
            observation, *rest = super().step(action)
            return observation * (np.nan if rest[1] or rest[2] else 1), *rest

    def make_vec(config: dict[str, Any], num_envs: int) -> SyncVectorEnv:
        return SyncVectorEnv(
            [lambda: EndsWithNan(config)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
        )

    register_env("rollouts-test/ends-with-nan", EndsWithNan, make_vec=make_vec)
    config = make_config({"id": "rollouts-test/ends-with-nan"}, num_envs=2)
    config.vectorize = "native"
    runner = make_runner(VectorEnvRunner, config)
    with pytest.raises(EnvironmentFaultError, match="not finite"):
        runner.sample(num_timesteps=100)


def test_double_buffering_of_environments_that_cannot_step_asynchronously_is_refused() -> None:
    config = make_config({"id": COUNTING}, num_envs=2)
    config.double_buffering = True
    with pytest.raises(Exception, match="vectorize to async"):
        make_runner(VectorEnvRunner, config)


def test_halves_of_processes_return_the_same_as_one_vector_environment() -> None:
    samples = []
    for double_buffering in (False, True):
        config = make_config({"id": COUNTING, "lengths": [[3, 1], [4]]}, num_envs=3)
        config.vectorize, config.double_buffering = "async", double_buffering
        runner = make_runner(VectorEnvRunner, config)
        samples.append(collect([runner.sample(num_timesteps=30) for _ in range(2)], 3, 1))
        runner.stop()
    for whole, halved in zip(*samples, strict=True):
        shorter, longer = sorted(
            (whole, halved), key=lambda slot: sum(len(e.actions) for e in slot)
        )
        assert_prefix(shorter, longer)
