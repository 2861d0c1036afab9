"""The tests of `tests/algorithms/common/devices` on a GPU, where torch itself refuses to wait."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from rlssl.algorithms.common.devices.gradient_guard import DeviceGuard
from rlssl.algorithms.common.devices.transfers import DeviceTransfers, HostCopy
from rlssl.networks.update_rng import UpdateRNG
from rlssl.system.random_state import generators, set_generators
from tests.algorithms.common.devices.test_gradient_guard import poisoned
from tests.algorithms.common.devices.updates import (
    CASES,
    LOSSES,
    off_policy_bench,
    off_policy_updates,
    ppo_updates,
)

pytestmark = pytest.mark.gpu


@contextlib.contextmanager
def no_waits() -> Iterator[None]:
    """Context in which torch raises an error where the host would wait for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_no_update_waits(kind: str, loss: str | None) -> None:
    bench = off_policy_bench(kind, loss, gpus=1)
    assert type(bench.learner.guard) is DeviceGuard
    off_policy_updates(bench, 3)
    batches = [bench.draw() for _ in range(3)]
    with no_waits():
        for batch in batches:
            bench.learner.update_on(batch, agent_steps=64)


@pytest.mark.parametrize("loss", [None, *LOSSES])
def test_a_minibatch_step_of_ppo_does_not_wait(loss: str | None) -> None:
    _, step = ppo_updates(loss, gpus=1)
    for _ in range(3):
        step()
    with no_waits():
        step()


def draw_on_the_cpu(module: Any) -> None:
    for part in module.modules():
        if isinstance(part, UpdateRNG):
            part.draws_on_cpu = True


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_updates_are_those_of_the_cpu(kind: str, loss: str | None) -> None:
    on_cpu, on_gpu = (off_policy_bench(kind, loss, gpus=gpus) for gpus in (0, 1))
    on_gpu.module.load_state_dict(on_cpu.module.state_dict())
    draw_on_the_cpu(on_gpu.module)
    for batch in [on_cpu.draw() for _ in range(3)]:
        for bench in (on_cpu, on_gpu):
            bench.learner.update_on(batch, agent_steps=64)
    found = on_gpu.module.state_dict()
    for key, value in on_cpu.module.state_dict().items():
        # Adam divides by the size of a gradient, so rounding of small gradients shows.
        torch.testing.assert_close(found[key].cpu(), value, rtol=1e-2, atol=2e-3, msg=key)


def test_a_nonfinite_update_moves_no_weight_and_is_counted() -> None:
    bench = off_policy_bench("sac", None, gpus=1)
    off_policy_updates(bench, 3)
    names = [name for name, _ in bench.module.named_parameters() if not name.startswith("target")]
    before = {name: bench.module.state_dict()[name].clone() for name in names}
    bench.learner.update_on(poisoned(bench), agent_steps=64)
    after = bench.module.state_dict()
    assert [name for name in names if not torch.equal(before[name], after[name])] == []
    assert bench.learner.report()["faults"]["nonfinite_updates"] == 1


def test_many_prepared_batches_arrive_unchanged() -> None:
    transfers = DeviceTransfers(torch.device("cuda", 0))
    rng = np.random.default_rng(0)
    batches = [
        {"obs": rng.integers(0, 256, (64, 9, 84, 84), np.uint8), "rewards": rng.random(64)}
        for _ in range(20)
    ]
    # Blocks are freed and used again while others are on their way.
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        prepared = [transfers.prepare(first), transfers.prepare(second)]
        for batch, one in zip((first, second), prepared, strict=True):
            received = transfers.receive(one)
            sums = HostCopy(received["obs"].double().sum() + received["rewards"].sum())
            assert sums.array() == pytest.approx(batch["obs"].sum() + batch["rewards"].sum())


def test_weights_come_in_one_copy_as_they_are() -> None:
    bench = off_policy_bench("sac-pixels", "curl", gpus=1)
    expected = bench.module.state_dict()
    found = bench.module.get_state()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value.cpu().numpy(), err_msg=key)


def test_the_generator_of_the_device_is_saved_and_restored() -> None:
    torch.rand(1, device="cuda")
    saved = generators()
    assert list(saved["cuda"]) == [torch.cuda.current_device()]
    drawn = torch.rand(3, device="cuda")
    set_generators(saved)
    assert torch.equal(torch.rand(3, device="cuda"), drawn)
