"""A replay that was filled from a data set is the replay that saw the episodes."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tree
from gymnasium import spaces
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.data import DatasetWriter, Description, Episode, EpisodeDataset
from rlssl.data.chunks import from_chunks
from rlssl.data.replay_loading import check_spaces, fill
from rlssl.errors import SpecError
from rlssl.networks.action_encoding import to_env_actions, to_module_actions
from rlssl.replay import ReplayBuffer
from rlssl.rollouts import VectorEnvRunner
from tests.data.recorded import random_episode
from tests.rollouts.counting import COUNTING, make_config, make_runner


def recorded(frame_stack: int, **options: Any) -> tuple[Any, list[list[SingleAgentEpisode]]]:
    """A runner, and the chunks of each finished episode that it has sampled."""
    env = {"id": COUNTING, "lengths": [[3, 1, 9], [2, 2, 7], [4]], **options}
    runner = make_runner(VectorEnvRunner, make_config(env, 3, frame_stack))
    chunks: list[SingleAgentEpisode] = []
    for num_timesteps in (7, 1, 20, 3, 64):
        chunks += runner.sample(num_timesteps=num_timesteps)
    ordered = sorted(chunks, key=lambda chunk: (chunk.id_, chunk.t_started))
    episodes = [list(parts) for _, parts in groupby(ordered, lambda chunk: chunk.id_)]
    return runner, [parts for parts in episodes if parts[-1].is_done]


def filled(
    path: Path, episodes: Sequence[Episode], description: Description, frame_stack: int = 1
) -> ReplayBuffer:
    """A replay, filled from a data set that is written first."""
    with DatasetWriter(path, description, rows_per_shard=9) as writer:
        for episode in episodes:
            writer.add(episode)
    data, actions = EpisodeDataset(path), description.action_space
    assert actions is not None
    replay = ReplayBuffer(
        max(data.num_rows, frame_stack + 1),
        description.observation_space,
        actions,
        frame_stack=frame_stack,
        seed=0,
    )
    assert fill(replay, data, to_module_actions(actions)) == data.num_steps
    return replay


def assert_same_rows(one: ReplayBuffer, other: ReplayBuffer, n_step: int = 1) -> None:
    found, wanted = (
        replay.gather(replay.drawable_indices(), n_step=n_step, gamma=0.9)
        for replay in (one, other)
    )
    assert found.keys() == wanted.keys()
    for a, b in zip(tree.flatten(found), tree.flatten(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize(
    ("options", "frame_stack"),
    [({}, 1), ({}, 3), ({"nested": True}, 1), ({"soft": [2, 5]}, 1), ({"soft": [1]}, 2)],
    ids=["vector", "stacks", "dict", "life losses", "life losses and stacks"],
)
def test_recorded_and_loaded_episodes_are_the_replays_own(
    tmp_path: Path, options: dict, frame_stack: int, n_step: int
) -> None:
    runner, episodes = recorded(frame_stack, **options)
    space, actions = runner.env.single_observation_space, runner.env.single_action_space
    seen = ReplayBuffer(1000, space, actions, frame_stack=frame_stack, seed=0)
    for chunks in episodes:
        seen.add(chunks)
    loaded = filled(
        tmp_path,
        [from_chunks(chunks) for chunks in episodes],
        Description(space, actions),
        frame_stack,
    )
    assert len(loaded) > 20
    assert_same_rows(loaded, seen, n_step)


def test_a_lost_life_ends_an_episode(tmp_path: Path) -> None:
    # Games of 4 steps, in which a life is lost at the second step.
    _, episodes = recorded(1, lengths=[[4]], soft=[2])
    lengths = [len(from_chunks(chunks)) for chunks in episodes]
    assert set(lengths) == {2} and len(lengths) > 10
    ends = [(chunks[-1].is_terminated, chunks[-1].is_truncated) for chunks in episodes]
    assert ends.count((True, False)) > ends.count((False, True)) > 0


def test_scaled_actions_are_the_environments_own(tmp_path: Path) -> None:
    runner, episodes = recorded(1, continuous=True)
    space, actions = runner.env.single_observation_space, runner.env.single_action_space
    to_env = to_env_actions(actions, normalize=True, clip=True)
    recorded_ones = [from_chunks(chunks, to_env) for chunks in episodes]
    loaded = filled(tmp_path, recorded_ones, Description(space, actions))
    rows = loaded.gather(loaded.drawable_indices())
    played = np.concatenate([from_chunks(chunks).actions for chunks in episodes])
    np.testing.assert_array_equal(to_env(rows["actions"]), to_env(played))
    np.testing.assert_allclose(rows["actions"], played, atol=2e-7)
    # The environment observes the sum of the elements of its last action.
    np.testing.assert_array_equal(rows["new_obs"][:, 3], to_env(played).sum(-1))


def test_a_single_agent_episode_has_what_the_episode_has() -> None:
    space = spaces.Dict(a=spaces.Box(0, 255, (2, 3, 3), np.uint8), b=spaces.Discrete(3))
    actions = spaces.Box(-1, 1, (2,))
    episode = random_episode(space, actions, 5, truncated=True, terminated=False)
    single = episode.to_single_agent_episode("a.0", space, actions)
    single.validate()
    assert (len(single), single.is_terminated, single.is_truncated) == (5, False, True)
    assert single.get_return() == pytest.approx(episode.rewards.sum())
    for found, wanted in (
        (single.get_observations(), episode.observations),
        (single.get_actions(), episode.actions),
    ):
        for a, b in zip(tree.flatten(found), tree.flatten(wanted), strict=True):
            np.testing.assert_array_equal(a, b)


def test_chunks_of_an_episode_must_be_complete() -> None:
    _, episodes = recorded(1)
    chunks = next(parts for parts in episodes if len(parts) > 1)
    with pytest.raises(ValueError, match="expected: step 0"):
        from_chunks(chunks[1:])


VECTOR = spaces.Box(-1, 1, (3,))
PENDULUM = spaces.Box(-2, 2, (1,))


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (random_episode(VECTOR, None, 2), "episode 0 of the episodes .*: it has no actions"),
        (random_episode(spaces.Box(-1, 1, (4,)), PENDULUM, 2), r"shape \(4,\) per step"),
        (
            Episode(np.zeros((2, 3), np.float32), np.full((1, 1), 3, np.float32), np.zeros(1)),
            r"episode 0 .* action \[3.\] of row 0 is not in Box",
        ),
        (random_episode(VECTOR, PENDULUM, 30), "holds 20 rows, and 0 . 31 are needed"),
    ],
)
def test_episodes_that_do_not_fit_the_replay_are_refused(episode: Episode, message: str) -> None:
    replay = ReplayBuffer(20, VECTOR, PENDULUM)
    with pytest.raises(SpecError, match=message):
        fill(replay, [episode], to_module_actions(PENDULUM))


@pytest.mark.parametrize(
    ("recorded_space", "wanted", "message"),
    [
        (spaces.Box(0, 255, (1, 84, 84), np.uint8), spaces.Box(0, 255, (84, 84, 1), np.uint8),
         r"shape \(1, 84, 84\), and \(84, 84, 1\)"),
        (spaces.Box(0, 1, (3,)), spaces.Box(0, 255, (3,), np.uint8), "are float32, and uint8"),
        (spaces.Box(0, 1, (3,)), spaces.Box(0, 255, (3,)), r"bounds \[0, 1\], and \[0, 255\]"),
        (spaces.Dict(a=VECTOR), spaces.Dict(b=VECTOR), r"parts \['a'\], and \['b'\]"),
        (spaces.Tuple([VECTOR, VECTOR]), spaces.Tuple([VECTOR, PENDULUM]), r"\[1\] have shape"),
        (spaces.Discrete(3), spaces.Discrete(3, start=1), "start=1"),
        (VECTOR, spaces.Discrete(3), "are Box"),
    ],
)  # fmt: skip
def test_a_difference_of_spaces_is_said_in_words(
    recorded_space: gym.Space, wanted: gym.Space, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        check_spaces(Description(recorded_space, PENDULUM), wanted, PENDULUM, "demos")
    with pytest.raises(SpecError, match=message):
        check_spaces(Description(VECTOR, recorded_space), VECTOR, wanted, "demos")


def test_actions_that_are_unknown_are_said_to_be() -> None:
    with pytest.raises(SpecError, match="its actions are unknown"):
        check_spaces(Description(VECTOR), VECTOR, PENDULUM, "video")
