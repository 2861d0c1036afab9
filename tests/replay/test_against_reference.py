"""The replay against lists of episodes: random chunks of several environments, some lost."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import ACTIONS, assert_same_batch, chunk
from tests.replay.reference import ReferenceReplay

SHAPES = {"vector": (2,), "chw": (1, 4, 4), "hwc": (4, 4, 2)}
AXES = {"vector": 0, "chw": 0, "hwc": 2}

# The next chunk: (environment, steps, how the chunk ends, whether it arrives, lookback).
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(1, 9),
        st.sampled_from(["continues", "continues", "terminated", "truncated", "abandoned"]),
        st.sampled_from([True, True, True, True, False]),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=40,
)


class FakeEnv:
    """An environment whose frames and rewards are all different."""

    def __init__(self, number: int, kind: str, frame_stack: int) -> None:
        self.rng = np.random.default_rng(number)
        self.number, self.shape, self.padding = number, SHAPES[kind], frame_stack - 1
        self.episodes = 0
        self._begin()

    def chunk(self, length: int, ends: str, lookback: int) -> SingleAgentEpisode:
        start = len(self.frames) - 1
        self.frames += [self._frame() for _ in range(length)]
        self.rewards += self.rng.normal(size=length).tolist()
        self.actions += self.rng.integers(0, 100, length).tolist()
        lookback = min(lookback, start)
        # At an episode's start, fragments pad with copies of the first frame.
        padding = max(self.padding - start, 0) if lookback == start else 0
        frames = [self.frames[0]] * padding + self.frames[start - lookback :]
        made = chunk(
            np.stack(frames),
            self.rewards[start - lookback :],
            actions=np.array(self.actions[start - lookback :], np.int32),
            id_=f"{self.number}-{self.episodes}",
            t_started=start,
            lookback=lookback,
            padding=padding,
            terminated=ends == "terminated",
            truncated=ends == "truncated",
        )
        if ends != "continues":
            self._begin()
        return made

    def _begin(self) -> None:
        self.episodes += 1
        self.frames = [self._frame()]
        self.rewards: list[float] = []
        self.actions: list[int] = []

    def _frame(self) -> np.ndarray:
        return self.rng.integers(0, 256, self.shape).astype(np.uint8)


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplayBuffer])
@settings(max_examples=150)
@given(
    kind=st.sampled_from(sorted(SHAPES)),
    frame_stack=st.integers(1, 4),
    capacity=st.integers(5, 60),
    events=EVENTS,
    at_a_time=st.integers(1, 4),
    n_step=st.integers(1, 7),
    sequence_length=st.none() | st.integers(1, 6),
)
def test_same_steps_and_same_transitions(
    cls: type[ReplayBuffer],
    kind: str,
    frame_stack: int,
    capacity: int,
    events: list[tuple[int, int, str, bool, int]],
    at_a_time: int,
    n_step: int,
    sequence_length: int | None,
) -> None:
    space = gym.spaces.Box(0, 255, SHAPES[kind], np.uint8)
    buffer = cls(capacity, space, ACTIONS, frame_stack=frame_stack, seed=0)
    reference = ReferenceReplay(capacity, frame_stack, AXES[kind])
    envs = [FakeEnv(number, kind, frame_stack) for number in range(4)]
    arriving = []
    for number, length, ends, arrives, lookback in events:
        made = envs[number].chunk(length, ends, lookback)
        if arrives:
            arriving.append(made)
    for i in range(0, len(arriving), at_a_time):
        chunks = arriving[i : i + at_a_time]
        bonuses = [np.full(len(episode), i + 0.5) for episode in chunks]
        buffer.add(chunks, bonuses)
        for episode, bonus in zip(chunks, bonuses, strict=True):
            reference.add(episode, bonus)
        _compare(buffer, reference, n_step, sequence_length)


def _compare(
    buffer: ReplayBuffer, reference: ReferenceReplay, n_step: int, sequence_length: int | None
) -> None:
    expected = reference.steps()
    assert len(buffer) == len(expected)
    assert buffer.drawable_indices().tolist() == sorted(expected)
    if not expected:
        with pytest.raises(ValueError, match="nothing can be drawn"):
            buffer.sample(1, beta=1.0)
        return
    options: dict[str, Any] = {"n_step": n_step, "gamma": 0.9, "beta": 0.5}
    batch = buffer.sample(8, **options, sequence_length=sequence_length)
    for row, index in enumerate(batch["indices"].tolist()):
        part, i = expected[index]
        if sequence_length is None:
            _same(batch, row, reference.transition(part, i, n_step, 0.9))
            continue
        for t in range(sequence_length):
            there = i + t < len(part.rows) and part.rows[i + t].is_step
            assert batch["mask"][row, t] == there
            if there:
                _same(batch, (row, t), reference.transition(part, i + t, n_step, 0.9))
            else:
                zeros = {name: 0 for name in reference.transition(part, i, 1, 0.9)}
                _same(batch, (row, t), zeros)


def _same(batch: dict[str, Any], at: Any, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(batch[name][at], value, rtol=1e-6, atol=1e-6, err_msg=name)


@settings(max_examples=40)
@given(
    events=EVENTS,
    capacity=st.integers(5, 30),
    cls=st.sampled_from([ReplayBuffer, PrioritizedReplayBuffer]),
)
def test_state_restores_to_the_same_future(
    events: list[tuple[int, int, str, bool, int]], capacity: int, cls: type[ReplayBuffer]
) -> None:
    space = gym.spaces.Box(0, 255, SHAPES["chw"], np.uint8)
    buffer, other = (cls(capacity, space, ACTIONS, frame_stack=3, seed=s) for s in (0, 1))
    envs = [FakeEnv(number, "chw", 3) for number in range(4)]
    chunks = [envs[event[0]].chunk(event[1], event[2], event[4]) for event in events]
    half = len(chunks) // 2
    other.add(chunks[half:])  # set_state removes these
    buffer.add(chunks[:half])
    if len(buffer):
        indices = buffer.sample(8, beta=0.5)["indices"]
        buffer.update_priorities(indices, np.arange(8) / 3)
    other.set_state(buffer.get_state())
    for left in chunks[half:]:
        for each in (buffer, other):
            each.add([left])
        assert len(buffer) == len(other)
        if len(buffer):
            one, two = (each.sample(8, n_step=3, beta=0.5) for each in (buffer, other))
            assert_same_batch(one, two)
