"""The queue of keys: order, wrapping, masks, several Learners, restoring, and ids of rows."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from rlssl.auxiliary import Queue
from rlssl.auxiliary.queue import content_ids
from tests.auxiliary.latents import Half, Meeting


def keys_of(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[:, None]


def held(queue: Queue) -> list[float]:
    """The keys of the filled slots, as numbers."""
    return queue.keys.flatten()[queue.allowed()[0]].tolist()


def test_keys_fill_the_slots_and_then_replace_the_oldest() -> None:
    queue = Queue(3, 1)
    assert queue.is_empty and held(queue) == []
    queue.enqueue(keys_of(1, 2))
    assert not queue.is_empty and held(queue) == [1, 2]
    queue.enqueue(keys_of(3, 4))
    assert held(queue) == [4, 2, 3] and int(queue.pointer) == 1 and int(queue.count) == 3


@pytest.mark.parametrize("size", [1, 5, 7])
def test_queue_equals_a_list_of_the_latest_keys(size: int) -> None:
    queue = Queue(size, 1)
    latest: list[float] = []
    for batch in range(20):
        numbers = [10.0 * batch + k for k in range(batch % (size + 1))]
        queue.enqueue(keys_of(*numbers) if numbers else torch.zeros(0, 1))
        latest = (latest + numbers)[-size:]
        assert sorted(held(queue)) == sorted(latest)


def test_keys_with_the_id_of_the_query_are_not_allowed() -> None:
    queue = Queue(4, 1)
    queue.enqueue(keys_of(1, 2, 3), torch.tensor([7, 8, 7]))
    found = queue.allowed(torch.tensor([7, 9]))
    assert found.tolist() == [[False, True, False, False], [True, True, True, False]]
    # Keys without an id are negatives of every query.
    queue.enqueue(keys_of(4))
    assert queue.allowed(torch.tensor([7])).tolist() == [[False, True, False, True]]


def test_stored_keys_have_no_graph_and_are_copies() -> None:
    keys = torch.ones(2, 1, requires_grad=True)
    queue = Queue(4, 1)
    queue.enqueue(keys)
    with torch.no_grad():
        keys.zero_()
    assert not queue.keys.requires_grad and held(queue) == [1, 1]


def test_restored_queue_continues_as_the_saved_one() -> None:
    saved, restored = Queue(3, 1), Queue(3, 1)
    saved.enqueue(keys_of(1, 2), torch.tensor([5, 6]))
    restored.load_state_dict(saved.state_dict())
    assert not restored.is_empty
    for queue in (saved, restored):
        queue.enqueue(keys_of(3, 4), torch.tensor([7, 8]))
    for key, value in saved.state_dict().items():
        assert torch.equal(value, restored.state_dict()[key]), key


def test_two_learners_hold_identical_queues_in_rank_order() -> None:
    queues, meeting = [Queue(5, 1) for _ in range(2)], Meeting()

    def enqueue(rank: int) -> None:
        for start in (0.0, 10.0):
            keys = keys_of(*(start + 2 * rank + k for k in range(2)))
            ids = torch.full((2,), rank)
            queues[rank].enqueue(keys, ids, Half(rank, 4, meeting))

    threads = [threading.Thread(target=enqueue, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 0 1 2 3, then 10 in the last slot and 11 12 13 in the first ones.
    for queue in queues:
        assert queue.keys.flatten().tolist() == [11, 12, 13, 3, 10]
        assert queue.ids.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "keys, ids, message",
    [
        (torch.ones(4, 1), None, "a batch of 4 keys does not fit into a queue of 3: set the size"),
        (torch.ones(2, 2), None, r"keys of this queue must be \[N, 1\]; got \(2, 2\)"),
        (torch.ones(2, 1), torch.ones(1), r"ids must be \[2\], as the keys; got \(1,\)"),
    ],
)
def test_wrong_batches_are_refused(keys: Tensor, ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Queue(3, 1).enqueue(keys, ids)


@pytest.mark.parametrize("size, dim, message", [(0, 1, "size .* got 0"), (1, 0, "dim .* got 0")])
def test_empty_sizes_are_refused(size: int, dim: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"{message[:4]}.*must be a whole number >= 1"):
        Queue(size, dim)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
@pytest.mark.parametrize("shape", [(3,), (4,), (2, 5, 5)])
def test_ids_are_equal_for_equal_rows_only(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    # As many different rows as 4 of 256 values allow, with a few equal ones.
    rows = torch.randint(0, 256, (300, *shape), generator=generator).to(dtype)
    found = content_ids(rows)
    assert len(found.unique()) == len(rows.unique(dim=0))
    assert found.dtype == torch.int64 and found.min() >= 0 and found.max() < 2**31
    # One row alone has the same id.
    assert torch.equal(content_ids(rows[5:6]), found[5:6])
    assert content_ids(rows[:0]).shape == (0,)


def test_moved_pixel_has_another_id() -> None:
    images = torch.zeros(400, 20, 20, dtype=torch.uint8)
    images.flatten(1).fill_diagonal_(255)
    assert len(content_ids(images).unique()) == 400
