"""Save and restore: the next 100 batches are equal, and damaged files are refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import ACTIONS, VECTOR, assert_same_batch, chunk, vector_chunk

IMAGE = gym.spaces.Box(0, 255, (6, 6, 1), np.uint8)
KINDS: list[type[ReplayBuffer]] = [ReplayBuffer, PrioritizedReplayBuffer]


def _chunks(count: int, start: int = 0) -> list[Any]:
    """Interleaved chunks of three environments; episodes end after four chunks of 5 steps."""
    made = []
    for i in range(start, start + count):
        env, turn = i % 3, i // 3
        t = turn % 4 * 5
        rng = np.random.default_rng(i)
        # The first frame is the last frame of the previous chunk.
        first = np.random.default_rng(i - 3).integers(0, 256, (6, 6, 6, 1))[-1:] if t else None
        frames = rng.integers(0, 256, (6, 6, 6, 1))
        if first is not None:
            frames = np.concatenate([first, frames[1:]])
        made.append(
            chunk(
                frames.astype(np.uint8),
                rng.normal(size=5),
                id_=f"{env}-{turn // 4}",
                t_started=t,
                terminated=t == 15,
            )
        )
    return made


def _filled(cls: type[ReplayBuffer], chunks: int, seed: int = 0, **options: Any) -> ReplayBuffer:
    buffer = cls(100, IMAGE, ACTIONS, frame_stack=3, seed=seed, **options)
    for made in _chunks(chunks):
        buffer.add([made], [np.full(5, 0.5)])
    for i in range(5):
        batch = buffer.sample(16, beta=0.5)
        priorities = np.random.default_rng(i).random(16) * 3 * (1 + seed)
        buffer.update_priorities(batch["indices"], priorities)
    return buffer


def _continue(buffer: ReplayBuffer, chunks: int) -> list[dict[str, Any]]:
    """Draws 100 batches, with new steps and priorities in between."""
    batches = []
    for i in range(100):
        batches.append(buffer.sample(16, n_step=3, beta=0.5, sequence_length=2 if i % 2 else None))
        buffer.update_priorities(batches[-1]["indices"], np.arange(16) / 7)
        if i % 5 == 0:
            buffer.add(_chunks(1, start=chunks + i // 5), [np.zeros(5)])
    return batches


@pytest.fixture(params=[(None, 8), (None, 40), ("mapped", 40)], ids=["partly", "wrapped", "mapped"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], int]:
    """Options of the buffers, and number of chunks to add: 8 or 40, about 5 rows each."""
    where, chunks = request.param
    return {"storage_path": tmp_path / where if where else None}, chunks


@pytest.mark.parametrize("cls", KINDS)
@pytest.mark.parametrize("piece_bytes, is_cut", [(500, True), (2**24, False)])
def test_next_100_batches_are_equal(
    cls: type[ReplayBuffer],
    way: tuple[dict[str, Any], int],
    piece_bytes: int,
    is_cut: bool,
    tmp_path: Path,
) -> None:
    options, chunks = way
    buffer = _filled(cls, chunks, **options)
    assert (buffer.num_rows == 100) == (chunks == 40)
    buffer.save(tmp_path / "saved", piece_bytes=piece_bytes)
    # A row takes about 65 bytes. A ring that has wrapped around takes at least two files.
    assert (len(list((tmp_path / "saved").glob("rows_*"))) > 5) == is_cut
    state = buffer.get_state()
    # Saving twice changes nothing, and the restored buffers may have held other rows.
    buffer.save(tmp_path / "saved", piece_bytes=piece_bytes)
    from_folder = _filled(cls, 3, seed=5, **options)
    from_folder.restore(tmp_path / "saved")
    from_state = _filled(cls, 50, seed=6, **options)
    from_state.set_state(state)
    expected = _continue(buffer, chunks)
    for other in (from_folder, from_state):
        for one, two in zip(expected, _continue(other, chunks), strict=True):
            assert_same_batch(one, two)
        assert (other.num_added, len(other)) == (buffer.num_added, len(buffer))


def test_empty_buffer_is_saved_and_restored(tmp_path: Path) -> None:
    buffer, other = (ReplayBuffer(10, VECTOR, ACTIONS, seed=seed) for seed in (0, 1))
    buffer.save(tmp_path / "saved")
    other.add([vector_chunk(0, [1])])
    other.restore(tmp_path / "saved")
    assert (len(other), other.num_added) == (0, 0)
    for each in (buffer, other):
        each.add([vector_chunk(0, [1, 2, 3])])
    assert_same_batch(buffer.sample(20), other.sample(20))


def test_only_rows_in_use_are_written_and_no_pickle(tmp_path: Path) -> None:
    buffer = ReplayBuffer(10**6, VECTOR, ACTIONS)
    buffer.add([vector_chunk(0, [1, 2])])
    buffer.save(tmp_path / "saved")
    files = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert files == ["head.npz", "replay.json", "rows_000000000000.npz"]
    assert sum(path.stat().st_size for path in (tmp_path / "saved").iterdir()) < 10_000
    for path in (tmp_path / "saved").glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(array.dtype != object for array in arrays.values())
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(path.read_bytes())
    state = buffer.get_state()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values())


@pytest.mark.parametrize(
    "cls, change, message",
    [
        (ReplayBuffer, {"capacity": 60}, "has capacity 50, this one has 60"),
        (ReplayBuffer, {"frame_stack": 3}, "has frame_stack 2, this one has 3"),
        (
            ReplayBuffer,
            {"observation_space": gym.spaces.Box(0, 1, (2,))},
            r"has observations \[\[\[1\], '<f4'\]\], this one has \[\[\[2\], '<f4'\]\]",
        ),
        (ReplayBuffer, {"action_space": gym.spaces.MultiDiscrete([2, 2])}, "has actions"),
        (PrioritizedReplayBuffer, {}, "has kind uniform, this one has prioritized"),
    ],
)
def test_state_of_another_buffer_is_refused_and_changes_nothing(
    cls: type[ReplayBuffer], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "capacity": 50,
        "observation_space": VECTOR,
        "action_space": ACTIONS,
        "frame_stack": 2,
    }
    buffer, other = ReplayBuffer(**given), cls(**given | change)
    buffer.add([vector_chunk(0, [1, 2])])
    buffer.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=f"the saved replay {message}"):
        other.restore(tmp_path / "saved")
    with pytest.raises(ValueError, match=f"the saved replay {message}"):
        other.set_state(buffer.get_state())
    assert len(other) == 0


def test_another_alpha_is_refused(tmp_path: Path) -> None:
    PrioritizedReplayBuffer(9, VECTOR, ACTIONS, alpha=0.5).save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"has alpha 0.5, this one has 0.6"):
        PrioritizedReplayBuffer(9, VECTOR, ACTIONS, alpha=0.6).restore(tmp_path / "saved")


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
@pytest.mark.parametrize("name", ["head.npz", "rows_000000000000.npz", "replay.json"])
def test_damage_is_found_and_named(name: str, damage: str, tmp_path: Path) -> None:
    _filled(ReplayBuffer, 8).save(tmp_path / "saved")
    path = tmp_path / "saved" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(b"x" + data[1:])
    other = _filled(ReplayBuffer, 4, seed=1)
    before = other.get_state()
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        other.restore(tmp_path / "saved")
    for key, array in other.get_state().items():
        np.testing.assert_array_equal(array, before[key])


def test_format_of_the_future_is_refused(tmp_path: Path) -> None:
    buffer = _filled(ReplayBuffer, 4)
    buffer.save(tmp_path / "saved")
    manifest = tmp_path / "saved" / "replay.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match="is not of format 1"):
        buffer.restore(tmp_path / "saved")


@pytest.mark.parametrize("dies_in", ["_write_arrays", "_replace", "flush"])
def test_older_save_survives_a_death_while_saving(
    dies_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = _filled(ReplayBuffer, 8)
    buffer.save(tmp_path / "saved")
    expected = buffer.get_state()
    buffer.add(_chunks(1, start=8), [np.zeros(5)])

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"rlssl.replay.saving.{dies_in}", die)
        with pytest.raises(KeyboardInterrupt):
            buffer.save(tmp_path / "saved")
    other = _filled(ReplayBuffer, 1, seed=1)
    other.restore(tmp_path / "saved")
    for key, array in other.get_state().items():
        np.testing.assert_array_equal(array, expected[key])
    buffer.save(tmp_path / "saved")  # the next save works
    other.restore(tmp_path / "saved")
    assert other.num_added == buffer.num_added
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_older_save_is_found_after_a_death_between_the_two_renames(tmp_path: Path) -> None:
    buffer = _filled(ReplayBuffer, 8)
    buffer.save(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / ".saved.replaced")
    other = _filled(ReplayBuffer, 1, seed=1)
    other.restore(tmp_path / "saved")
    assert other.num_added == buffer.num_added


def test_state_is_a_copy() -> None:
    buffer = _filled(ReplayBuffer, 8)
    state = buffer.get_state()
    before = {key: array.copy() for key, array in state.items()}
    _continue(buffer, 8)
    for key, array in state.items():
        np.testing.assert_array_equal(array, before[key])
