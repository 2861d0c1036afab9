"""Batches arrive as they are, in one block."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlssl.algorithms.common.devices.transfers import (
    DeviceTransfers,
    HostCopy,
    HostTransfers,
    PackedBatch,
    pack,
    transfers_for,
)
from rlssl.batches import to_tensors
from tests.algorithms.common.devices.updates import off_policy_bench

CPU = torch.device("cpu")
DTYPES = ("uint8", "int8", "int32", "int64", "float16", "float32", "float64", "bool")


def assert_same(actual: Any, expected: Any) -> None:
    """Two batches have the same keys, dtypes, shapes and values."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, two in zip(actual, expected, strict=True):
            assert_same(one, two)
    else:
        assert actual.dtype == expected.dtype and torch.equal(actual, expected)


@given(
    st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4)),
        min_size=1,
        max_size=6,
    )
)
def test_a_packed_batch_has_the_values_of_its_arrays(columns: list[tuple[str, list[int]]]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 2, shape).astype(dtype) for dtype, shape in columns]
    batch = {"first": arrays[0], "nested": {"rest": tuple(arrays[1:])}}
    block, layout = pack(batch, pin=False)
    assert_same(PackedBatch(block, layout, None).tensors(), to_tensors(batch, CPU))


def test_arrays_that_are_read_only_or_not_contiguous_are_packed() -> None:
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    frames.flags.writeable = False
    batch = {"obs": frames.transpose(2, 0, 1), "rewards": np.array([1, 2], np.float32)[::-1]}
    transfers = DeviceTransfers(CPU)
    received = transfers.receive(batch)
    assert received["obs"].tolist() == frames.transpose(2, 0, 1).tolist()
    assert received["rewards"].tolist() == [2.0, 1.0]


def test_a_batch_that_was_prepared_before_does_not_see_later_changes() -> None:
    batch = {"rewards": np.zeros(2, np.float32)}
    transfers = DeviceTransfers(CPU)
    prepared = transfers.prepare(batch)
    batch["rewards"][:] = 1.0
    assert transfers.receive(prepared)["rewards"].tolist() == [0.0, 0.0]


def test_on_the_cpu_tensors_share_the_memory_of_arrays() -> None:
    batch = {"rewards": np.zeros(2, np.float32)}
    transfers = transfers_for(CPU)
    assert type(transfers) is HostTransfers
    rows = transfers.receive(transfers.prepare(batch))["rewards"]
    assert rows.data_ptr() == batch["rewards"].ctypes.data


def test_weights_come_as_they_are() -> None:
    state = {
        "channels_last": torch.arange(24.0)
        .reshape(1, 2, 3, 4)
        .to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    }
    found = DeviceTransfers(CPU).weights(state)
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)
        assert not value.numel() or found[name].data_ptr() != value.data_ptr()


@pytest.mark.parametrize("inference_only", [False, True])
def test_a_module_on_a_gpu_has_the_state_of_one_on_the_cpu(inference_only: bool) -> None:
    module = off_policy_bench("sac-pixels", "curl").module
    expected = module.get_state(inference_only=inference_only)
    module.transfers = DeviceTransfers(CPU)
    found = module.get_state(inference_only=inference_only)
    assert list(found) == list(expected)
    for name, value in expected.items():
        # RLlib makes numbers of scalars.
        assert np.asarray(found[name]).dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_copies_of_transfers_are_for_the_same_device() -> None:
    assert copy.deepcopy(DeviceTransfers(CPU)).device == CPU


def test_a_copy_to_the_host_is_an_array() -> None:
    copied = HostCopy(torch.tensor([1.0, 2.0], requires_grad=True))
    assert copied.is_ready()
    assert np.concatenate([np.asarray(copied), [3.0]]).tolist() == [1.0, 2.0, 3.0]
