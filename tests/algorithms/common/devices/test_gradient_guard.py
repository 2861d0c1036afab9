"""The guard for GPUs makes the updates of the CPU's, and skips the same ones."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.common.devices.gradient_guard import (
    LATEST_UPDATES,
    DeviceGuard,
    HostGuard,
    guard_for,
)
from rlssl.algorithms.common.optimizers import EagerAdam
from rlssl.errors import NonFiniteUpdateError
from tests.algorithms.common.devices.updates import off_policy_bench, off_policy_updates
from tests.host_syncs import as_on_a_gpu

CPU = torch.device("cpu")
LIMITS = {"clipped": 0.5, "small": 100.0, "unlimited": None}


def drawn() -> dict[str, list[Tensor]]:
    torch.manual_seed(0)
    shapes = [(4, 3), (5,), ()]
    return {name: [torch.randn(shape) for shape in shapes] for name in LIMITS} | {"empty": []}


def test_norms_and_clipping_are_those_of_the_cpu() -> None:
    on_host, on_device = drawn(), drawn()
    expected, _ = HostGuard().clip(on_host, LIMITS.get)
    guard = DeviceGuard(CPU)
    norms, may_continue = guard.clip(on_device, LIMITS.get)
    assert may_continue and guard.found_inf == 0
    assert {name: norm.item() for name, norm in norms.items()} == pytest.approx(expected)
    for name, gradients in on_host.items():
        torch.testing.assert_close(on_device[name], gradients)


def test_no_gradients_are_finite() -> None:
    guard = DeviceGuard(CPU)
    assert guard.clip({"empty": []}, LIMITS.get) == ({}, True)
    assert [update.is_finite for update in guard.finish(True, {})] == [True]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_steps_after_a_nonfinite_gradient_are_skipped_until_the_update_ends(value: float) -> None:
    guard, parameter = DeviceGuard(CPU), nn.Parameter(torch.ones(2))
    adam = EagerAdam([parameter], lr=0.1)
    # Infinite sizes of both signs must not cancel.
    for gradients, moves in (([1.0, 2.0], True), ([value, -value], False), ([1.0, 1.0], True)):
        before = parameter.detach().clone()
        parameter.grad = torch.tensor(gradients)
        guard.clip({"adam": [parameter.grad]}, LIMITS.get)
        guard.clip({"other": [torch.ones(2)]}, LIMITS.get)
        adam.found_inf = guard.found_inf
        adam.step()
        assert torch.equal(parameter, before) != moves
        (update,) = guard.finish(True, {"rows": gradients})
        assert update == (moves, {"rows": gradients})
    # Two steps count, and the moments are finite.
    state = adam.state[parameter]
    assert state["step"] == 2
    assert state["exp_avg"].isfinite().all()


@pytest.mark.parametrize("kind", ["sac", "sac-pixels", "ddpg", "rainbow"])
def test_updates_are_those_of_the_cpu(kind: str) -> None:
    states = []
    for guard in (HostGuard(), DeviceGuard(CPU)):
        torch.manual_seed(0)
        bench = off_policy_bench(kind, "curl")
        # Both get packed batches: a gradient that is zero but for rounding depends on strides, and
        # Adam makes a whole step of it.
        as_on_a_gpu(bench.learner).guard = guard
        off_policy_updates(bench, 4)
        states.append(bench.module.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=0, atol=1e-5, msg=key)


def poisoned(bench: Any) -> dict[str, Any]:
    batch = bench.draw()
    batch[Columns.REWARDS][0] = np.nan
    return batch


@pytest.mark.parametrize("kind", ["sac", "rainbow"])
def test_a_nonfinite_update_moves_no_weight_and_is_counted(kind: str) -> None:
    bench = off_policy_bench(kind, None)
    learner = as_on_a_gpu(bench.learner)
    off_policy_updates(bench, 3)
    names = [name for name, _ in bench.module.named_parameters() if not name.startswith("target")]
    before = {name: bench.module.state_dict()[name].clone() for name in names}
    learner.update_on(poisoned(bench), agent_steps=64)
    after = bench.module.state_dict()
    assert [name for name in names if not torch.equal(before[name], after[name])] == []
    assert learner.num_nonfinite_updates == 1
    off_policy_updates(bench, 1)
    assert learner.num_nonfinite_updates == 0
    assert all(value.isfinite().all() for value in bench.module.state_dict().values())
    assert learner.report()["faults"]["nonfinite_updates"] == 1


class LateCopy:
    """A copy that arrives only when it is awaited."""

    def __init__(self, tensor: Tensor) -> None:
        self._values = tensor.clone().numpy()

    def is_ready(self) -> bool:
        return False

    def array(self) -> np.ndarray:
        return self._values


def test_a_skipped_update_is_named_a_few_updates_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlssl.algorithms.common.devices.gradient_guard.HostCopy", LateCopy)
    bench = off_policy_bench("sac", None)
    learner = as_on_a_gpu(bench.learner)
    learner.config = learner.config.copy(copy_frozen=False)
    learner.config.max_nonfinite_updates, learner.config.run_folder = 1, str(tmp_path)
    learner.update_on(poisoned(bench), agent_steps=64)
    off_policy_updates(bench, LATEST_UPDATES - 1)
    assert learner.num_nonfinite_updates == 0  # not known yet
    with pytest.raises(NonFiniteUpdateError, match=r"Not finite in the last batch: \['rewards'\]"):
        off_policy_updates(bench, 1)
    (saved,) = tmp_path.glob("nonfinite_batch-*.npz")
    assert np.isnan(np.load(saved)["rewards"][0])


def test_a_report_waits_for_the_updates_that_are_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rlssl.algorithms.common.devices.gradient_guard.HostCopy", LateCopy)
    bench = off_policy_bench("sac", None)
    learner = as_on_a_gpu(bench.learner)
    learner.update_on(poisoned(bench), agent_steps=64)
    assert learner.report()["faults"]["nonfinite_updates"] == 1


def test_the_device_chooses_the_guard() -> None:
    assert type(guard_for(CPU)) is HostGuard
    assert type(guard_for(torch.device("meta"))) is DeviceGuard
