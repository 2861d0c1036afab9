"""Several Learners on one model: the same weights at the start, the same mean gradient every step.

RLlib wraps modules in torch's DistributedDataParallel. That fails if a parameter gets no gradient
or is used outside ``forward``, as auxiliary heads are. rlssl does not wrap modules.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from rlssl.errors import PeersLostError
from rlssl.peers import Peers, RowRange


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    """Turns an error of torch into a PeersLostError: usually another Learner's process died."""
    try:
        yield
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise PeersLostError(f"the exchange with the other Learners failed: {words}") from error


class TorchPeers(Peers):
    """The Learners of torch's default process group."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def rows(self, num: int) -> RowRange:
        """See ``Peers``."""
        counts = self.gather_counts(num)
        return sum(counts[: self.rank]), sum(counts)

    @_exchange()
    @torch.no_grad()
    def gather(self, rows: Tensor) -> Tensor:
        """See ``Peers``. Learners may have different numbers of rows."""
        counts = self.gather_counts(len(rows))
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @_exchange()
    def gather_objects(self, value: Any) -> list[Any]:
        """See ``Peers``. Values are pickled, so they should be small."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    @_exchange()
    @torch.no_grad()
    def mean(self, value: Tensor) -> Tensor:
        """See ``Peers``."""
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def mean_counts(self, counts: Sequence[int]) -> list[float]:
        """See ``Peers``."""
        own = torch.tensor(counts, dtype=torch.float64, device=_device())
        means: list[float] = self.mean(own).tolist()
        return means

    @_exchange()
    def gather_counts(self, num: int) -> list[int]:
        """The ``num`` of every Learner, by rank."""
        mine = torch.tensor([num], device=_device())
        counts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(counts, mine)
        return [int(count) for count in counts]


@_exchange()
@torch.no_grad()
def broadcast_state(module: nn.Module) -> None:
    """Gives every Learner the first one's parameters, buffers and extra states."""
    state = module.state_dict()
    for key, value in state.items():
        # NCCL needs tensors on the GPU, and extra states are on the CPU.
        sent = value.to(_device(), copy=True).contiguous()
        dist.broadcast(sent, src=0)
        state[key] = sent.to(value.device)
    module.load_state_dict(state)


@_exchange()
@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the Learners, in one all-reduce.

    A missing gradient counts as zero, also if all Learners lack it.
    """
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for group in by_dtype.values():
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        flat = _flatten_dense_tensors(gradients)
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for parameter, mean in zip(group, _unflatten_dense_tensors(flat, gradients), strict=True):
            parameter.grad = mean


def _device() -> torch.device:
    """The device that tensors of the process group must be on."""
    is_nccl = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if is_nccl else torch.device("cpu")
