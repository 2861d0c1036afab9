"""Windows of a replay buffer, against a slow reference: copies, chunks, ends, overwritten rows."""

from typing import Any

import numpy as np
import pytest
from ray.rllib.core.columns import Columns

from rlssl.batches import EPISODE, STEP, episode_number
from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import ACTIONS, VECTOR, vector_chunk

BEFORE, AFTER = 2, 3

#: Episode -> its length. The first is truncated, the second terminated, the third unfinished.
LENGTHS = {1: 12, 2: 7, 3: 9}


def add_chunk(replay: ReplayBuffer, episode: int, start: int) -> None:
    """Adds up to three steps; observation 1,000 * episode + step, reward 10 * episode + step."""
    stop = min(start + 3, LENGTHS[episode])
    lookback = min(start, 3)
    ends = stop == LENGTHS[episode]
    replay.add(
        [
            vector_chunk(
                1_000 * episode + start - lookback,
                [10 * episode + step for step in range(start - lookback, stop)],
                id_=f"episode {episode}",
                t_started=start,
                lookback=lookback,
                truncated=ends and episode == 1,
                terminated=ends and episode == 2,
            )
        ]
    )


def interleaved(capacity: int, frame_stack: int = 1, **options: Any) -> ReplayBuffer:
    """Three episodes at a time, in chunks of three steps."""
    kind = options.pop("kind", ReplayBuffer)
    replay: ReplayBuffer = kind(
        capacity, VECTOR, ACTIONS, seed=0, frame_stack=frame_stack, identity=True, **options
    )
    for start in range(0, 12, 3):
        for episode, length in LENGTHS.items():
            if start < length:
                add_chunk(replay, episode, start)
    return replay


@pytest.mark.parametrize("frame_stack", [1, 3])
@pytest.mark.parametrize("capacity", [100, 21])
@pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])
def test_windows_against_a_slow_reference(kind: Any, capacity: int, frame_stack: int) -> None:
    replay = interleaved(capacity, frame_stack, kind=kind)
    indices = replay.drawable_indices()
    drawable = {int(row[-1]) for row in replay.gather(indices)[Columns.OBS]}
    found = replay.windows(indices, before=BEFORE, after=AFTER)
    assert found["valid"].any(axis=0).all() and not found["valid"].all(axis=1).all()
    for row, valid in enumerate(found["valid"]):
        episode, step = divmod(int(found[Columns.OBS][row, BEFORE, -1]), 1_000)
        for place in range(BEFORE + 1 + AFTER):
            then = step + place - BEFORE
            frame = 1_000 * episode + then
            known = frame in drawable if place <= BEFORE else then <= LENGTHS[episode]
            assert valid[place] == (known and all(valid[place : BEFORE + 1])), (episode, then)
            if not valid[place]:
                assert found[Columns.REWARDS][row, place] == 0
                continue
            stack = [1_000 * episode + max(then - i, 0) for i in range(frame_stack)][::-1]
            assert found[Columns.OBS][row, place].tolist() == stack
            assert found[EPISODE][row, place] == episode_number(f"episode {episode}")
            assert found[STEP][row, place] == then
            has_step = then < LENGTHS[episode]
            assert found[Columns.REWARDS][row, place] == has_step * (10 * episode + then)
            is_end = episode == 2 and then == LENGTHS[2] - 1
            assert found[Columns.TERMINATEDS][row, place] == is_end


def test_places_without_a_step_have_the_action_of_the_row() -> None:
    replay = ReplayBuffer(20, VECTOR, ACTIONS, seed=0)
    actions = np.array([7, 8, 9], np.int32)
    replay.add([vector_chunk(0, [1.0, 2.0, 3.0], actions=actions, terminated=True)])
    found = replay.windows(replay.drawable_indices(), before=1, after=2)
    assert found[Columns.ACTIONS].tolist() == [[7, 7, 8, 9], [7, 8, 9, 8], [8, 9, 9, 9]]
    assert found["valid"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]


def test_windows_of_replaced_steps_are_refused() -> None:
    replay = interleaved(100)
    old = replay.drawable_indices()[:1]
    for _ in range(4):
        replay.add([vector_chunk(0, [0.0] * 30, terminated=True)])
    with pytest.raises(ValueError, match="are gone"):
        replay.windows(old, after=1)


def test_identity_survives_save_and_restore(tmp_path: Any) -> None:
    replay = interleaved(21)
    replay.save(tmp_path / "replay")
    other = ReplayBuffer(21, VECTOR, ACTIONS, seed=5, identity=True)
    other.restore(tmp_path / "replay")
    for one in (replay, other):
        add_chunk(one, 3, 9)
    first, second = replay.sample(64), other.sample(64)
    assert first.keys() >= {EPISODE, STEP}
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
    without = ReplayBuffer(21, VECTOR, ACTIONS)
    with pytest.raises(ValueError, match="identity True, this one has None"):
        without.restore(tmp_path / "replay")
