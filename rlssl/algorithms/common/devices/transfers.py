"""Copies between the host and the Learner's device.

A batch of many small arrays costs one copy for each of them, and copies from ordinary memory wait.
So `DeviceTransfers` packs a batch into one block of pinned memory, and copies the block on a CUDA
stream of its own: the copy runs while the GPU works on an earlier batch.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import tree
from ray.rllib.connectors.common.numpy_to_tensor import NumpyToTensor
from torch import Tensor

from rlssl.batches import to_tensors

#: Bytes; each array of a packed batch begins at a multiple, so that GPUs read it in large pieces.
_ALIGNMENT = 256


class HostCopy:
    """A tensor's values on the host; the copy from a GPU starts now and is awaited when read.

    Args:
        tensor: On any device.

    Example:
        >>> HostCopy(torch.tensor([1.0, 2.0])).array()
        array([1., 2.], dtype=float32)
    """

    def __init__(self, tensor: Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        on_gpu = tensor.device.type == "cuda"
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
        self._values.copy_(tensor.detach(), non_blocking=True)
        if on_gpu:
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(tensor.device))

    def is_ready(self) -> bool:
        """Whether the copy has ended; does not wait."""
        return self._done is None or self._done.query()

    def array(self) -> np.ndarray:
        """The values; waits until the copy has ended."""
        if self._done is not None:
            self._done.synchronize()
        values: np.ndarray = self._values.numpy()
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """For ``numpy.asarray``."""
        return np.array(self.array(), dtype=dtype, copy=copy)


class PackedBatch(NamedTuple):
    """A batch whose arrays are in one block of memory."""

    # [bytes], uint8, on the device.
    block: Tensor
    # Nested as the batch; the leaves are (first byte, shape, dtype).
    layout: Any
    # When the block has arrived; None: it is there.
    arrived: torch.cuda.Event | None

    def tensors(self) -> Any:
        """The batch: views of the block, nested as the arrays were."""
        return tree.map_structure(lambda leaf: leaf.view_of(self.block), self.layout)


class _Leaf:
    """Where an array is in a block; a class, so that ``tree`` does not look inside."""

    def __init__(self, first: int, array: np.ndarray) -> None:
        self.first, self.end, self.shape = first, first + array.nbytes, array.shape
        self.dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype

    def view_of(self, block: Tensor) -> Tensor:
        return block[self.first : self.end].view(self.dtype).view(self.shape)


class HostTransfers:
    """For a Learner on the CPU: arrays become tensors without a copy."""

    device = torch.device("cpu")

    def prepare(self, batch: Mapping[str, Any]) -> Any:
        """Prepares a batch for ``receive``; may be called in another thread, ahead of time."""
        return batch

    def receive(self, prepared: Any) -> Any:
        """The tensors of a batch, on the device.

        Args:
            prepared: From ``prepare``, or the arrays of a batch.
        """
        return to_tensors(prepared, self.device)

    def to_host(self, tensor: Tensor) -> Any:
        """The values of a tensor, for ``numpy.asarray``."""
        return tensor.cpu().numpy()

    def weights(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of a state on the host, by name."""
        return state

    def scalars(self, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Metrics for a report: Python's numbers, or scalars on the host."""
        return values


class DeviceTransfers(HostTransfers):
    """For a Learner on a GPU: one copy for each batch, from pinned memory, beside other work.

    Args:
        device: The device.

    Example:
        >>> transfers = DeviceTransfers(torch.device("cpu"))
        >>> packed = transfers.prepare({"obs": np.ones((2, 3), np.uint8), "rewards": np.zeros(2)})
        >>> {name: tuple(rows.shape) for name, rows in transfers.receive(packed).items()}
        {'obs': (2, 3), 'rewards': (2,)}
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None

    def __reduce__(self) -> Any:
        """A copy has a stream of its own: streams cannot be copied."""
        return DeviceTransfers, (self.device,)

    def prepare(self, batch: Mapping[str, Any]) -> PackedBatch:
        """Packs a batch and starts its copy to the device."""
        packed, layout = pack(batch, pin=self._on_gpu)
        arrived = None
        with torch.cuda.stream(self._stream) if self._on_gpu else contextlib.nullcontext():
            block = torch.empty_like(packed, device=self.device)
            block.copy_(packed, non_blocking=True)
            if self._stream is not None:
                arrived = torch.cuda.Event()
                arrived.record(self._stream)
        return PackedBatch(block, layout, arrived)

    def receive(self, prepared: Any) -> Any:
        """See `HostTransfers`; the device waits for the copy, the host does not."""
        packed = prepared if isinstance(prepared, PackedBatch) else self.prepare(prepared)
        if packed.arrived is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(packed.arrived)
            # The block was allocated for the other stream: it must not be used again too early.
            packed.block.record_stream(stream)
        return packed.tensors()

    def to_host(self, tensor: Tensor) -> HostCopy:
        """Starts the copy; ``numpy.asarray`` waits for it."""
        return HostCopy(tensor)

    @torch.no_grad()
    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `HostTransfers`; one copy for all tensors of a dtype."""
        on_host = dict(state)
        by_dtype: dict[torch.dtype, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            # A module may keep a part of its state on the CPU.
            if tensor.device.type == self.device.type:
                by_dtype.setdefault(tensor.dtype, {})[name] = tensor
        for tensors in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors.values()])
            parts = torch.from_numpy(HostCopy(flat).array()).split(
                [tensor.numel() for tensor in tensors.values()]
            )
            for (name, tensor), part in zip(tensors.items(), parts, strict=True):
                on_host[name] = part.view(tensor.shape)
        return on_host

    def scalars(self, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """See `HostTransfers`; all tensors come in one copy."""
        tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
        if not tensors:
            return values
        stacked = torch.stack([value.detach().double() for value in tensors.values()])
        numbers = HostCopy(stacked).array().tolist()
        return {**values, **dict(zip(tensors, numbers, strict=True))}


def transfers_for(device: torch.device) -> HostTransfers:
    """The transfers of a Learner on a device.

    Example:
        >>> type(transfers_for(torch.device("cpu"))).__name__
        'HostTransfers'
    """
    return HostTransfers() if device.type == "cpu" else DeviceTransfers(device)


def pack(batch: Mapping[str, Any], *, pin: bool) -> tuple[Tensor, Any]:
    """Copies the arrays of a batch into one block.

    Args:
        batch: Arrays inside mappings and tuples.
        pin: Whether the block is in pinned memory, from which copies to a GPU do not wait.

    Returns:
        The block, [bytes], uint8; and the layout, for `PackedBatch`.

    Example:
        >>> block, layout = pack({"a": np.ones(3, np.int16)}, pin=False)
        >>> PackedBatch(block, layout, None).tensors()
        {'a': tensor([1, 1, 1], dtype=torch.int16)}
    """
    first, leaves = 0, []
    arrays = [np.asarray(array) for array in tree.flatten(batch)]
    for array in arrays:
        leaves.append(_Leaf(first, array))
        first += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    block = torch.empty(first, dtype=torch.uint8, pin_memory=pin)
    memory = block.numpy()
    for leaf, array in zip(leaves, arrays, strict=True):
        memory[leaf.first : leaf.end].view(array.dtype).reshape(array.shape)[...] = array
    return block, tree.unflatten_as(batch, leaves)


def pin_transfers(pipeline: Any, device: Any) -> None:
    """Copies batches to a GPU from pinned memory, which overlaps with work; uint8 stays uint8."""
    if torch.device(device).type != "cuda":
        return
    pinned = NumpyToTensor(pin_memory=True, device=device)
    pipeline.insert_after(NumpyToTensor, pinned)
    pipeline.remove(NumpyToTensor)  # removes only the first
