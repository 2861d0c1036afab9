"""Stacks equal those of the actor; nested spaces; chunks whose previous chunk is missing."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tree

from rlssl.connectors.frame_stack import FrameStack, stacked_space, stacking_axis
from rlssl.image_spaces import image_layout
from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from rlssl.replay.frames import stacks_on_last_axis
from rlssl.rollouts.fragment import Fragment
from tests.replay.episodes import ACTIONS, VECTOR, all_steps, chunk, numbers, vector_chunk

SHAPES = [(3,), (84, 84, 1), (1, 84, 84), (7, 7, 3), (80, 7, 7), (7, 7, 80), (7, 9, 5), (5, 5, 5)]


@pytest.mark.parametrize("shape", SHAPES)
def test_stacks_have_the_layout_of_the_actor_and_the_encoders(shape: tuple[int, ...]) -> None:
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    assert 2 * stacks_on_last_axis(space) == stacking_axis(space)
    if len(shape) == 3:
        assert stacks_on_last_axis(space) == (image_layout(space) == "HWC")


@pytest.mark.parametrize("shape", [(3,), (2, 6, 6), (6, 6, 2)])
def test_observations_equal_those_of_the_actor(shape: tuple[int, ...]) -> None:
    """Fragments of two environments with soft terminations, against the actor's stacks."""
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, *shape)).astype(np.uint8)
    fragment = Fragment(frames, observation_space=space, action_space=ACTIONS, frames=3)
    stack = FrameStack(3, 2, space)
    stack.reset(frames, np.ones(2, np.bool_))
    buffer = ReplayBuffer(200, space, ACTIONS, frame_stack=3, seed=0)
    seen: dict[int, np.ndarray] = {}
    following: dict[int, np.ndarray] = {}
    for t in range(60):
        acted_on = stack.stacked()
        frames = rng.integers(0, 256, (2, *shape)).astype(np.uint8)
        # The reward identifies the step.
        names = np.array([2.0 * t, 2.0 * t + 1])
        fragment.append(np.zeros(2, np.int64), names, {}, frames, np.ones(2, np.bool_))
        stack.push(frames)
        ends = rng.random(2) < 0.2
        for slot in range(2):
            seen[2 * t + slot] = acted_on[slot]
            following[2 * t + slot] = stack.stacked()[slot]
            if ends[slot]:
                fragment.close(slot, terminated=True, truncated=False)
        stack.reset(frames, ends)
        if rng.random() < 0.3 or t == 59:
            buffer.add(fragment.cut(with_unfinished=True))
    steps = all_steps(buffer)
    assert len(steps) == 120
    assert next(iter(steps.values()))["obs"].shape == stacked_space(space, 3).shape
    for row in steps.values():
        name = int(row["rewards"])
        np.testing.assert_array_equal(row["obs"], seen[name])
        np.testing.assert_array_equal(row["new_obs"], following[name])


def test_stack_before_the_start_repeats_the_first_frame() -> None:
    buffer = ReplayBuffer(20, VECTOR, ACTIONS, frame_stack=3, seed=0)
    buffer.add([vector_chunk(5, [1, 1, 1], terminated=True)])
    stacks = {tuple(row["obs"].tolist()) for row in all_steps(buffer).values()}
    assert stacks == {(5, 5, 5), (5, 5, 6), (5, 6, 7)}


@pytest.mark.parametrize(
    "lookback, expected",
    [
        (2, {(8, 9, 10), (9, 10, 11), (10, 11, 12)}),
        # Frame 8 is missing, so the stack of the first step is incomplete.
        (1, {(9, 10, 11), (10, 11, 12)}),
        (0, {(10, 11, 12)}),
    ],
)
def test_lookback_replaces_a_missing_chunk_and_incomplete_stacks_are_not_drawn(
    lookback: int, expected: set[tuple[int, ...]]
) -> None:
    buffer = ReplayBuffer(20, VECTOR, ACTIONS, frame_stack=3, seed=0)
    rewards = [0.0] * lookback + [1.0, 2.0, 4.0]
    buffer.add([vector_chunk(10 - lookback, rewards, t_started=10, lookback=lookback)])
    rows = list(all_steps(buffer).values())
    assert {tuple(row["obs"].tolist()) for row in rows} == expected
    assert 0.0 not in [row["rewards"] for row in rows]  # steps of the lookback are not drawn


def test_gap_in_an_episode_is_never_bridged() -> None:
    buffer = ReplayBuffer(20, VECTOR, ACTIONS, seed=0)
    buffer.add([vector_chunk(0, [1, 1])])
    buffer.add([vector_chunk(7, [1, 1], t_started=7)])  # steps 2 to 6 are lost
    following = {float(r["obs"][0]): float(r["new_obs"][0]) for r in all_steps(buffer).values()}
    assert following == {0: 1, 1: 2, 7: 8, 8: 9}


def test_chunk_starts_again_from_lookback_if_the_row_before_it_was_replaced() -> None:
    buffer = ReplayBuffer(8, VECTOR, ACTIONS, frame_stack=2, seed=0)
    buffer.add([vector_chunk(0, [1], id_="slow")])  # rows 0, 1
    buffer.add([vector_chunk(100, [1] * 6, id_="fast")])  # rows 2 to 8: row 0 is replaced
    buffer.add([vector_chunk(0, [9, 1, 1], id_="slow", t_started=1, lookback=1)])
    # The new rows would replace row 1. Rows 9 to 12 hold the frames 0 (lookback), 1, 2, 3.
    stacks = {tuple(row["obs"].tolist()) for row in all_steps(buffer).values()}
    assert stacks == {(0, 1), (1, 2), (103, 104), (104, 105)}


def test_chunk_longer_than_the_buffer_leaves_its_newest_rows() -> None:
    for cls in (ReplayBuffer, PrioritizedReplayBuffer):
        buffer = cls(10, VECTOR, ACTIONS, frame_stack=3, seed=0)
        buffer.add([vector_chunk(0, range(1000), terminated=True)])
        # Rows 991 to 1000: the last has no step, and the first two have no complete stack.
        newest = sorted(row["rewards"] for row in all_steps(buffer, beta=1.0).values())
        assert newest == list(range(993, 1000))


def test_nested_observations_and_actions() -> None:
    observation_space = gym.spaces.Dict(
        {
            "image": gym.spaces.Box(0, 255, (4, 4, 1), np.uint8),
            "pair": gym.spaces.Tuple([gym.spaces.Discrete(9, start=1), gym.spaces.MultiBinary(3)]),
        }
    )
    action_space = gym.spaces.Dict(
        {"move": gym.spaces.MultiDiscrete([5, 5]), "force": gym.spaces.Box(-1, 1, (2,))}
    )
    buffer = ReplayBuffer(20, observation_space, action_space, seed=0)
    observations = [observation_space.sample() for _ in range(4)]
    actions = [action_space.sample() for _ in range(3)]
    stacked = tree.map_structure(lambda *leaves: np.stack(leaves), *observations)
    taken = tree.map_structure(lambda *leaves: np.stack(leaves), *actions)
    buffer.add([chunk(stacked, [0, 1, 2], actions=taken, terminated=True)])
    steps = all_steps(buffer, n_step=2)
    assert len(steps) == 3
    for row in steps.values():
        # 0 + 0.99 * 1, 1 + 0.99 * 2, and 2.
        t = {0.99: 0, 2.98: 1, 2.0: 2}[round(float(row["rewards"]), 2)]
        _equal(row["obs"], observations[t])
        _equal(row["new_obs"], observations[min(t + 2, 3)])
        _equal(row["actions"], actions[t])


def _equal(one: Any, other: Any) -> None:
    tree.assert_same_structure(one, dict(other), check_types=False)
    for a, b in zip(tree.flatten(one), tree.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "space, values",
    [
        (gym.spaces.Discrete(5), np.arange(4)),
        (gym.spaces.MultiDiscrete([5, 5]), np.arange(8).reshape(4, 2) % 5),
        (gym.spaces.Box(-1, 1, (), np.float64), np.linspace(0, 1, 4)),
    ],
)
def test_observations_of_simple_spaces_are_returned_unchanged(
    space: gym.Space, values: np.ndarray
) -> None:
    buffer = ReplayBuffer(9, space, ACTIONS, seed=0)
    buffer.add([chunk(values, [0, 1, 2])])
    for row in all_steps(buffer).values():
        t = int(row["rewards"])
        np.testing.assert_array_equal(row["obs"], values[t])
        assert row["obs"].dtype == space.dtype


def test_batches_are_copies() -> None:
    buffer = ReplayBuffer(9, VECTOR, ACTIONS, seed=0)
    observations = numbers(0, 2)
    buffer.add([chunk(observations, [1])])
    observations[:] = 7
    buffer.sample(1)["obs"][:] = 7
    assert buffer.sample(1)["obs"].tolist() == [[0.0]]
