"""Updates as on a GPU: nothing waits for the device, and a batch is one copy."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from rlssl.algorithms.common.devices import transfers
from tests.algorithms.common.devices.updates import (
    CASES,
    LOSSES,
    off_policy_bench,
    off_policy_updates,
    ppo_updates,
)
from tests.host_syncs import as_on_a_gpu, count_host_syncs


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the blocks that are copied to the device."""
    sizes: list[int] = []
    pack = transfers.pack

    def counted(batch: Any, *, pin: bool) -> Any:
        block, layout = pack(batch, pin=pin)
        sizes.append(len(block))
        return block, layout

    monkeypatch.setattr(transfers, "pack", counted)
    yield sizes


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_no_update_waits_and_each_batch_is_one_copy(
    kind: str, loss: str | None, packed: list[int]
) -> None:
    bench = off_policy_bench(kind, loss)
    as_on_a_gpu(bench.learner)
    off_policy_updates(bench, 3)  # Adam's first steps, and the check of what a loss reaches
    packed.clear()
    with count_host_syncs() as found:
        errors = off_policy_updates(bench, 5)
    assert found.waits == {}
    assert found.copies_from_host == {}
    assert len(packed) == 5
    has_priorities = kind == "rainbow"
    assert [each is not None for each in errors] == [has_priorities] * 5


@pytest.mark.parametrize("loss", [None, *LOSSES])
def test_a_minibatch_step_of_ppo_does_not_wait(loss: str | None) -> None:
    bench, step = ppo_updates(loss)
    as_on_a_gpu(bench.learner)
    for _ in range(3):
        step()
    with count_host_syncs() as found:
        for _ in range(5):
            step()
    assert found.waits == {}
    assert found.copies_from_host == {}


def test_a_report_fetches_all_metrics_in_one_copy() -> None:
    bench = off_policy_bench("sac", "curl")
    learner = as_on_a_gpu(bench.learner)
    off_policy_updates(bench, 3)
    metrics = {**learner.latest_metrics, ("number",): 2.5}
    with count_host_syncs() as found:
        numbers = learner.transfers.scalars(metrics)
    assert found.waits == {}
    assert list(numbers) == list(metrics)
    for key, value in metrics.items():
        assert type(numbers[key]) is float
        assert numbers[key] == (value.item() if isinstance(value, torch.Tensor) else value)


def test_the_counter_sees_what_waits() -> None:
    ones = torch.ones(3)
    with count_host_syncs() as found:
        ones.tolist()
        bool(ones.sum() > 0)
        ones[ones > 0]
        ones.cpu().numpy()
        torch.tensor([1.0])
    assert found.waits == {"tolist": 1, "_local_scalar_dense": 1, "index": 1, "cpu": 1, "numpy": 1}
    assert found.copies_from_host == {"tensor": 1}
