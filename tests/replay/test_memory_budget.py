"""Bytes per step, the estimate, the memory check, and the cost of adding a step."""

import errno
import functools
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.replay import (
    PrioritizedReplayBuffer,
    ReplayBuffer,
    check_memory,
    estimate_bytes,
)
from rlssl.replay.memory_budget import node_bytes
from tests.replay.episodes import ACTIONS, VECTOR, assert_same_batch, chunk, vector_chunk

SMALL = gym.spaces.Box(0, 255, (10, 10, 1), np.uint8)
ATARI = gym.spaces.Box(0, 255, (84, 84, 1), np.uint8)


def test_200_000_steps_take_a_frame_and_64_bytes_each() -> None:
    steps, length = 200_000, 1000
    frames = np.zeros((length + 1, 10, 10, 1), np.uint8)
    rewards = np.zeros(length)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rows = steps // length * (length + 1)
        buffer = PrioritizedReplayBuffer(rows, SMALL, gym.spaces.Discrete(6), frame_stack=4)
        for i in range(steps // length):
            bonus = [rewards]
            buffer.add([chunk(frames, rewards, id_=f"{i}", terminated=True)], bonus)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(buffer) == steps
    assert taken <= steps * (1.05 * 100 + 64)
    # The estimate equals the buffer's size, and covers the memory that was taken.
    estimate = estimate_bytes(
        rows, SMALL, gym.spaces.Discrete(6), 4, prioritized=True, intrinsic_rewards=True
    )
    assert estimate == buffer.nbytes
    assert estimate <= taken <= 1.01 * estimate


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplayBuffer])
@pytest.mark.parametrize(
    "space, frame_stack",
    [(ATARI, 4), (VECTOR, 1), (gym.spaces.Dict({"a": ATARI, "b": gym.spaces.Discrete(3)}), 1)],
)
def test_estimate_is_what_is_allocated(
    cls: type[ReplayBuffer], space: gym.Space, frame_stack: int
) -> None:
    buffer = cls(1000, space, ACTIONS, frame_stack=frame_stack)
    prioritized = cls is PrioritizedReplayBuffer
    expected = estimate_bytes(1000, space, ACTIONS, frame_stack, prioritized=prioritized)
    assert buffer.nbytes == expected


def test_a_million_atari_frames_by_hand() -> None:
    # 84 * 84 = 7056, action 8, reward 4, two links of 4, three flags, priority and sum 8 each.
    assert estimate_bytes(10**6, ATARI, ACTIONS, 4) == 10**6 * (7056 + 8 + 4 + 8 + 3 + 16)
    on_disk = estimate_bytes(10**6, ATARI, ACTIONS, 4, frames_in_memory=False, prioritized=False)
    assert on_disk == 10**6 * (8 + 4 + 8 + 3)


def test_memory_is_taken_as_rows_are_written() -> None:
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("needs /proc")
    before = int(pages.read_text().split()[1])
    buffer = PrioritizedReplayBuffer(500_000, ATARI, ACTIONS, frame_stack=4)
    buffer.add([chunk(np.ones((3, 84, 84, 1), np.uint8), [1, 2])])
    taken = (int(pages.read_text().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE")
    assert buffer.nbytes > 3.5e9
    assert taken < 100e6


def test_more_than_a_share_of_the_node_is_refused() -> None:
    check = functools.partial(check_memory, available=16 * 2**30)
    check(8 * 2**30)
    with pytest.raises(
        MemoryError,
        match=r"would take 8.50 GiB, more than 50 % of this node's 16.00 GiB; lower training.x",
    ):
        check(17 * 2**29, setting="training.x")
    check(17 * 2**29, share=0.6)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]; got 2"):
        check(1, share=2.0)


def test_memory_of_this_node_is_the_default() -> None:
    check_memory(node_bytes(), share=1.0)
    with pytest.raises(MemoryError, match="more than 100 % of this node"):
        check_memory(node_bytes() + 1, share=1.0)


@pytest.mark.parametrize(
    "membership, files, limit",
    [
        ("0::/job/step\n", {"job/memory.max": "1000", "job/step/memory.max": "max"}, 1000),
        ("0::/job\n", {"memory.max": "3000"}, 3000),  # the group of the container is the root
        (
            "5:cpu:/x\n4:memory,hugetlb:/job\n",
            {"memory/job/memory.limit_in_bytes": "2000", "x/memory.max": "1"},
            2000,
        ),
        ("0::/job\n", {}, None),
    ],
)
def test_limits_of_control_groups_count(
    tmp_path: Path,
    membership: str,
    files: dict[str, str],
    limit: int | None,
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = node_bytes(proc=tmp_path, cgroups=tmp_path / "cgroup")
    assert found == (physical if limit is None else limit)


def _bytes(array: np.ndarray) -> np.ndarray:
    """[rows, bytes]; as bytes, because unwritten rows may hold NaN, which equals nothing."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)


def _lines_run(function: Callable[[], object]) -> int:
    """Number of lines of Python of rlssl.replay that run in ``function``."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if "/replay/" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("cls", [ReplayBuffer, PrioritizedReplayBuffer])
def test_adding_a_step_costs_the_same_whatever_the_length_of_its_episode(
    cls: type[ReplayBuffer],
) -> None:
    costs = []
    for length in (5, 10, 10_000):
        buffer = cls(20_000, VECTOR, ACTIONS, frame_stack=4, seed=0)
        buffer.add([vector_chunk(0, [1.0] * length)])
        before = {name: array.copy() for name, array in buffer._arrays().items()}
        step = vector_chunk(length - 3, [1.0] * 4, t_started=length, lookback=3)
        tracemalloc.start()
        lines = _lines_run(functools.partial(buffer.add, [step]))
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        changed = np.zeros(20_000, np.bool_)
        for name, array in buffer._arrays().items():
            changed |= (_bytes(array) != _bytes(before[name])).any(axis=1)
        # The row that gets its step, and the row with the new frame.
        assert np.flatnonzero(changed).tolist() == [length, length + 1]
        costs.append((lines, taken))
    _, short, long = costs  # the first call does more
    assert short[0] == long[0] > 10
    assert abs(short[1] - long[1]) < 4096  # a copy of the episode would take 40,000 bytes more


def test_episodes_that_never_end_are_removed() -> None:
    buffer = ReplayBuffer(20, VECTOR, ACTIONS)
    for i in range(1000):  # each episode ends with the death of its runner
        buffer.add([vector_chunk(0, [1], id_=f"{i}")])
    assert 0 < buffer.num_open_episodes < 100


def test_frames_in_a_file_give_the_same_batches(tmp_path: Path) -> None:
    batches = []
    for path in (None, tmp_path / "frames"):
        buffer = ReplayBuffer(50, SMALL, ACTIONS, frame_stack=2, seed=0, storage_path=path)
        rng = np.random.default_rng(0)
        for i in range(9):
            frames = rng.integers(0, 256, (11, 10, 10, 1)).astype(np.uint8)
            buffer.add([chunk(frames, [i] * 10, id_=f"{i}", truncated=True)])
        batches.append(buffer.sample(32, n_step=3))
    assert_same_batch(*batches)
    # The files have no names, so even a killed process leaves none.
    assert list((tmp_path / "frames").iterdir()) == []


def test_full_disk_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match=r"storage_path .* has no room for 0.66 GiB .*lower the cap"):
        ReplayBuffer(10**5, ATARI, ACTIONS, storage_path=tmp_path)
    assert list(tmp_path.iterdir()) == []
