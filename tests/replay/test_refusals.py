"""Refused arguments: the message names them, and nothing is added."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import ACTIONS, VECTOR, chunk, numbers, vector_chunk

IMAGE = gym.spaces.Box(0, 255, (4, 4, 1), np.uint8)


@pytest.fixture
def buffer() -> PrioritizedReplayBuffer:
    return PrioritizedReplayBuffer(10, VECTOR, ACTIONS, seed=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"capacity": 4}, r"capacity must be > frame_stack \(4\).*got 4"),
        ({"capacity": 2**31}, r"capacity must be .* < 2\*\*31"),
        ({"frame_stack": 0}, "frame_stack must be >= 1; got 0"),
        ({"observation_space": gym.spaces.Discrete(3)}, "frame_stack > 1 needs a Box"),
        (
            {"observation_space": gym.spaces.Text(3), "frame_stack": 1},
            "observation_space holds Text",
        ),
        ({"observation_space": gym.spaces.Dict({}), "frame_stack": 1}, "there is nothing to store"),
        ({"action_space": gym.spaces.Text(3)}, "action_space holds Text"),
    ],
)
def test_impossible_buffers(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "capacity": 9,
        "observation_space": IMAGE,
        "action_space": ACTIONS,
        "frame_stack": 4,
    }
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(**given | arguments)


@pytest.mark.parametrize(
    "arguments, message", [({"alpha": 1.5}, "alpha"), ({"min_priority": 0.0}, "min_priority")]
)
def test_impossible_priorities(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} must be in .*got"):
        PrioritizedReplayBuffer(9, VECTOR, ACTIONS, **arguments)


def _one_more(part: str) -> SingleAgentEpisode:
    """A chunk with one observation, action or reward too many."""
    made = chunk(numbers(0, 3), [1, 2])
    buffer = getattr(made, part)
    buffer.data = np.concatenate([buffer.data, buffer.data[-1:]])
    return made


BAD_CHUNKS = [
    (chunk(numbers(0, 3)[:, [0, 0]], [1, 2]), r"observations of episode bad have shape \(2,\)"),
    (chunk(numbers(0, 3) * 1j, [1, 2]), "observations of episode bad are complex64"),
    (_one_more("observations"), "has 2 steps and 4 observations; it needs 3"),
    (_one_more("actions"), "has 2 steps and 3 actions"),
    (chunk(numbers(0, 3), [1, 2], actions=np.zeros(2)), "actions of episode bad are float64"),
    (chunk(numbers(0, 3), [1, np.nan]), "rewards of episode bad must be finite.*nan at index 1"),
    (chunk(numbers(0, 3), [1e300, 1]), r"must be finite as float32; got 1e\+300 at index 0"),
]


@pytest.mark.parametrize("bad, message", BAD_CHUNKS)
def test_chunks_that_do_not_fit_add_nothing(
    buffer: ReplayBuffer, bad: SingleAgentEpisode, message: str
) -> None:
    bad.id_ = "bad"
    with pytest.raises(ValueError, match=message):
        buffer.add([vector_chunk(0, [1]), bad])
    assert (len(buffer), buffer.num_rows, buffer.num_added) == (0, 0, 0)


def test_float_images_do_not_fit_a_uint8_space() -> None:
    buffer = ReplayBuffer(10, IMAGE, ACTIONS)
    with pytest.raises(ValueError, match="are float32; observation_space says uint8"):
        buffer.add([chunk(np.zeros((3, 4, 4, 1), np.float32), [1, 2])])


def test_stacks_instead_of_frames_do_not_fit() -> None:
    buffer = ReplayBuffer(10, IMAGE, ACTIONS, frame_stack=4)
    with pytest.raises(ValueError, match=r"have shape \(4, 4, 4\) per step; .* says \(4, 4, 1\)"):
        buffer.add([chunk(np.zeros((3, 4, 4, 4), np.uint8), [1, 2])])


def test_data_must_be_nested_like_the_space() -> None:
    buffer = ReplayBuffer(10, gym.spaces.Dict({"x": VECTOR}), ACTIONS)
    with pytest.raises(ValueError, match="are not nested like observation_space"):
        buffer.add([chunk({"y": numbers(0, 3)}, [1, 2])])
    with pytest.raises(
        ValueError, match=r"observations of episode .* must be numpy arrays; got dict"
    ):
        ReplayBuffer(10, VECTOR, ACTIONS).add([chunk({"x": numbers(0, 3)}, [1, 2])])


def test_error_for_episodes_of_lists_names_to_numpy(buffer: ReplayBuffer) -> None:
    episode = SingleAgentEpisode(
        observations=[[0.0], [1.0]], actions=[0], rewards=[1.0], len_lookback_buffer=0
    )
    with pytest.raises(ValueError, match=r"Call the episode's to_numpy\(\) first"):
        buffer.add([episode])


def test_chunks_without_steps_are_ignored(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(0, [])])
    assert buffer.num_rows == 0


def test_intrinsic_rewards_for_some_steps_only(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(0, [1, 1])], [np.ones(2)])
    with pytest.raises(ValueError, match="were given for earlier steps"):
        buffer.add([vector_chunk(2, [1], t_started=2)])
    other = ReplayBuffer(10, VECTOR, ACTIONS)
    other.add([vector_chunk(0, [1, 1])])
    with pytest.raises(ValueError, match="were not given for earlier steps"):
        other.add([vector_chunk(2, [1], t_started=2)], [np.ones(1)])


@pytest.mark.parametrize(
    "bonuses, message",
    [
        ([], "one array per episode, 1; got 0"),
        ([np.ones(3)], r"must have shape \(2,\); got \(3,\)"),
        (
            [np.array([1, np.inf])],
            "intrinsic_rewards of episode bad must be .*inf at index 1",
        ),
    ],
)
def test_intrinsic_rewards_that_do_not_fit(
    buffer: ReplayBuffer, bonuses: list[np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        buffer.add([vector_chunk(0, [1, 1], id_="bad")], bonuses)
    assert buffer.num_rows == 0
    buffer.add([vector_chunk(0, [1, 1])])  # both are still possible: with or without them


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size must be >= 1; got 0"),
        ({"n_step": 0}, "n_step must be >= 1; got 0"),
        ({"sequence_length": 0}, "sequence_length must be >= 1; got 0"),
        ({"gamma": 1.1}, r"gamma must be in \[0, 1\]; got 1.1"),
        (
            {"beta": None},
            "beta must be a number >= 0 .* prioritized buffer; got None.*annealed_beta",
        ),
        ({"beta": -0.1}, "beta must be a number >= 0 .*; got -0.1"),
    ],
)
def test_impossible_samples(buffer: ReplayBuffer, options: dict[str, Any], message: str) -> None:
    buffer.add([vector_chunk(0, [1, 1])])
    given: dict[str, Any] = {"batch_size": 2, "beta": 0.5}
    with pytest.raises(ValueError, match=message):
        buffer.sample(**given | options)


def test_nothing_can_be_drawn_from_an_empty_buffer(buffer: ReplayBuffer) -> None:
    with pytest.raises(ValueError, match="nothing can be drawn: 0 steps were added"):
        buffer.sample(1, beta=1.0)


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplayBuffer])
@pytest.mark.parametrize(
    "indices, priorities, message",
    [
        ([0, 1], [1.0, np.nan], "priorities must be finite.*got nan at position 1, for index 1"),
        ([0, 1], [-1.0, 1.0], "priorities must be .*>= 0; got -1.0 at position 0"),
        ([0, 9], [1.0, 1.0], "index 9 was never drawn"),
        ([-1], [1.0], "index -1 was never drawn"),
        ([0], [1.0, 1.0], r"indices must be integers \[B\] and priorities \[B\]"),
        ([0.0], [1.0], "indices must be integers"),
    ],
)
def test_impossible_priority_updates(
    cls: type[ReplayBuffer], indices: list[float], priorities: list[float], message: str
) -> None:
    buffer = cls(10, VECTOR, ACTIONS, seed=0)
    buffer.add([vector_chunk(0, [1, 1])])
    with pytest.raises(ValueError, match=message):
        buffer.update_priorities(np.array(indices), np.array(priorities))
