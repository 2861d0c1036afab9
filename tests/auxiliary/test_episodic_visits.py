"""Episodic visits against a slow reference, with several copies and chunks cut anywhere."""

import pickle
import threading
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.episodic_visits import EpisodicVisits, observation_keys
from rlssl.experiment.checkpoints.exact_state import _kept, _set_kept
from tests.auxiliary.episodes import batches_of_pieces, columns, expected_visits
from tests.auxiliary.latents import Half, Meeting

A, B = [0, 0], [0, 1]


def count(visits: EpisodicVisits, batch: dict[str, Any], peers: Any = None) -> list[int]:
    given = [] if peers is None else [peers]
    found = visits(batch[Columns.OBS], batch[Columns.NEXT_OBS], batch["chunks"], *given)
    numbers: list[int] = found.tolist()
    return numbers


def test_visits_by_hand() -> None:
    # The episode starts at A and goes B, A, B, B. A was visited at the start.
    path = torch.tensor([A, B, A, B, B])
    visits = EpisodicVisits(9)
    found = visits(path[:-1], path[1:], [ChunkInfo("a", 4, 0, False)])
    assert found.tolist() == [1, 2, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_visits_equal_a_slow_reference_for_copies_and_chunks_cut_anywhere(seed: int) -> None:
    visits = EpisodicVisits(1000)
    for pieces in batches_of_pieces(seed):
        assert count(visits, columns(pieces)) == expected_visits(pieces)


def test_a_restored_run_continues_to_count() -> None:
    batches = batches_of_pieces(0)
    saved = EpisodicVisits(1000)
    for pieces in batches[:4]:
        count(saved, columns(pieces))
    restored = EpisodicVisits(1000)
    _set_kept(restored, pickle.loads(pickle.dumps(_kept(saved))))
    for pieces in batches[4:]:
        assert count(restored, columns(pieces)) == expected_visits(pieces)


def test_ended_episodes_leave_nothing() -> None:
    visits = EpisodicVisits(1000)
    path = torch.tensor([A, B, A])
    visits(path[:-1], path[1:], [ChunkInfo("a", 2, 0, False)])
    assert visits.num_states == 2
    visits(path[:1], path[1:2], [ChunkInfo("a", 1, 2, True)])
    assert visits.num_states == 0 and not visits._open_visits


def test_episodes_that_restarts_cut_do_not_stay_forever() -> None:
    visits = EpisodicVisits(10)
    path = torch.tensor([A, B, A])
    for episode in range(100):
        chunks = [ChunkInfo(f"cut-{episode}", 2, 0, False)]
        assert visits(path[:-1], path[1:], chunks).tolist() == [1, 2]
        assert visits.num_states <= 10
    assert list(visits._open_visits) == [f"cut-{episode}" for episode in range(95, 100)]


def test_beyond_the_limit_the_state_visited_least_recently_is_forgotten() -> None:
    # Room for 3 states: the start 0, then 1, 2, and again 0. The state 3 replaces 1.
    visits = EpisodicVisits(3)
    path = torch.tensor([[0], [1], [2], [0], [3]])
    visits(path[:-1], path[1:], [ChunkInfo("a", 4, 0, False)])
    assert set(visits._open_visits["a"]) == set(observation_keys(torch.tensor([[0], [2], [3]])))


@pytest.mark.parametrize("seed", range(3))
def test_two_learners_with_chunks_of_the_same_episodes_count_as_one(seed: int) -> None:
    batches = batches_of_pieces(seed)
    meeting = Meeting()
    found: list[list[list[int]]] = [[], []]

    def learn(rank: int) -> None:
        visits, peers = EpisodicVisits(1000), Half(rank, 0, meeting)
        for pieces in batches:
            # One Learner gets the odd steps of an episode, the other one the even steps.
            cut = [part for piece in pieces for part in _single_steps(piece) if _rank(part) == rank]
            found[rank].append(count(visits, columns(cut), peers))

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index, pieces in enumerate(batches):
        parts = [part for piece in pieces for part in _single_steps(piece)]
        for rank in range(2):
            own = [part for part in parts if _rank(part) == rank]
            assert found[rank][index] == expected_visits(own)


def _single_steps(piece: Any) -> list[Any]:
    return [
        piece._replace(first_step=piece.first_step + step, num_rows=1)
        for step in range(piece.num_rows)
    ]


def _rank(piece: Any) -> int:
    return int(piece.first_step % 2)


def test_keys_read_every_part_of_a_dict() -> None:
    rows = {
        "grid": torch.tensor([[1, 2], [1, 2], [1, 3]], dtype=torch.uint8),
        "rest": (torch.tensor([0.5, 0.5, 0.5]), torch.tensor([True, False, True])),
    }
    keys = observation_keys(rows)
    assert len(set(keys)) == 3
    assert observation_keys(dict(reversed(rows.items()))) == keys
