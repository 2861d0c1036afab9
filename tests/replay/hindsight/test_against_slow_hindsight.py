"""Replaced goals, rewards and windows against lists of episodes, bit for bit."""

import copy
from typing import Any

import numpy as np
import pytest
import tree

from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import assert_same_batch
from tests.replay.hindsight.goal_episodes import (
    RandomEpisodes,
    SlowHindsight,
    expected_draws,
    relabeling_buffer,
)
from tests.replay.reference import ReferenceReplay

GAMMA = 0.9
CASES = [
    (kind, strategy, terminates)
    for kind in (ReplayBuffer, PrioritizedReplayBuffer)
    for strategy in ("future", "final", "episode")
    for terminates in (True, False)
]


def filled(
    seed: int, kind: type[ReplayBuffer], strategy: str, terminates: bool, num_chunks: int
) -> tuple[ReplayBuffer, SlowHindsight]:
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(12, 80))
    options: dict[str, Any] = {"strategy": strategy, "terminates": terminates, "kind": kind}
    buffer = relabeling_buffer(capacity, k=float(rng.choice([0.5, 4.0])), seed=seed, **options)
    reference, episodes = ReferenceReplay(capacity, 1, 0), RandomEpisodes(seed)
    for _ in range(num_chunks):
        made, flat, bonuses = episodes.chunk()
        buffer.add([made], [bonuses])
        reference.add(flat, bonuses)
    return buffer, SlowHindsight(reference, strategy, terminates=terminates)


def beta_of(buffer: ReplayBuffer) -> dict[str, Any]:
    return {"beta": 0.5} if isinstance(buffer, PrioritizedReplayBuffer) else {}


@pytest.mark.parametrize(("kind", "strategy", "terminates"), CASES)
def test_batches(kind: type[ReplayBuffer], strategy: str, terminates: bool) -> None:
    for seed in range(3):
        buffer, slow = filled(seed, kind, strategy, terminates, num_chunks=5 + 15 * seed)
        for n_step in (1, 3):
            generator = copy.deepcopy(buffer._generator)
            batch = buffer.sample(12, n_step=n_step, gamma=GAMMA, **beta_of(buffer))
            draws = expected_draws(buffer, generator, 12)
            assert batch["indices"].tolist() == [drawn.serial for drawn in draws]
            for row, drawn in enumerate(draws):
                expected = slow.transition(drawn, n_step, GAMMA)
                for key, value in expected.items():
                    found = tree.map_structure(lambda leaf, row=row: leaf[row], batch[key])
                    assert_equal(found, value)
            # Other columns of the same rows have the same goals.
            single = buffer.gather(batch["indices"], gamma=GAMMA, goals=buffer.goals_in(batch))
            for row, drawn in enumerate(draws):
                expected = slow.transition(drawn, 1, GAMMA)
                assert_equal(single["rewards"][row], expected["rewards"])
                assert_equal(
                    {key: leaf[row] for key, leaf in single["new_obs"].items()},
                    expected["new_obs"],
                )


def assert_equal(found: Any, expected: Any) -> None:
    for one, other in zip(tree.flatten(found), tree.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other).astype(one.dtype))


@pytest.mark.parametrize(("kind", "strategy", "terminates"), CASES[::3])
def test_windows(kind: type[ReplayBuffer], strategy: str, terminates: bool) -> None:
    for seed in range(4):
        buffer, slow = filled(seed, kind, strategy, terminates, num_chunks=10 + 5 * seed)
        generator = copy.deepcopy(buffer._generator)
        batch = buffer.sample(16, **beta_of(buffer))
        draws = expected_draws(buffer, generator, 16)
        windows = buffer.windows(batch["indices"], before=2, after=3, goals=buffer.goals_in(batch))
        for row, drawn in enumerate(draws):
            expected = slow.window(drawn, 2, 3)
            assert windows["valid"][row].tolist() == [place is not None for place in expected]
            for place, values in enumerate(expected):
                for key, value in (values or {}).items():
                    found = tree.map_structure(lambda leaf, at=(row, place): leaf[at], windows[key])
                    assert_equal(found, value)


@pytest.mark.parametrize(("kind", "strategy", "terminates"), CASES[::3])
def test_a_restored_buffer_draws_the_same_goals(
    kind: type[ReplayBuffer], strategy: str, terminates: bool, tmp_path: Any
) -> None:
    for seed in range(4):
        case = (seed, kind, strategy, terminates)
        buffer, _ = filled(*case, num_chunks=10 + 8 * seed)
        buffer.save(tmp_path / str(seed))
        states, files = (filled(*case, num_chunks=0)[0] for _ in range(2))
        states.set_state(buffer.get_state())
        files.restore(tmp_path / str(seed))
        copies = [(each, RandomEpisodes(99)) for each in (buffer, states, files)]
        for _ in range(6):
            options: dict[str, Any] = {"n_step": 3, **beta_of(buffer)}
            first, *others = [each.sample(16, **options) for each, _ in copies]
            for other in others:
                assert_same_batch(first, other)
            for each, source in copies:
                made, _, bonuses = source.chunk()
                each.add([made], [bonuses])
