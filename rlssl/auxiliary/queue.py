"""A queue of keys of earlier batches, as negatives of a contrastive loss."""

import math

import torch
from torch import Tensor, nn

from rlssl.peers import ALONE, Peers


class Queue(nn.Module):
    """The latest ``size`` keys of all Learners, in buffers: they are checkpointed with the loss.

    Enqueue in ``after_update``: then a key is in the queue only after the loss has used it as a
    positive, so it is never a negative of itself. All Learners hold the same queue.

    Args:
        size: Largest number of keys; >= 1.
        dim: Features of a key.
        num_ids: Ids of a key; >= 1.

    Raises:
        ValueError: If an argument is not a whole number >= 1.

    Example:
        >>> queue = Queue(3, 1)
        >>> queue.enqueue(torch.tensor([[1.0], [2.0]]))
        >>> queue.enqueue(torch.tensor([[3.0], [4.0]]))
        >>> queue.keys.flatten()
        tensor([4., 2., 3.])
        >>> queue.allowed()
        tensor([[True, True, True]])
    """

    keys: Tensor
    ids: Tensor
    pointer: Tensor
    count: Tensor

    def __init__(self, size: int, dim: int, *, num_ids: int = 1) -> None:
        super().__init__()
        for name, value in (("size", size), ("dim", dim), ("num_ids", num_ids)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} of a queue must be a whole number >= 1; got {value!r}.")
        self.size = size
        self.register_buffer("keys", torch.zeros(size, dim))
        shape = (size,) if num_ids == 1 else (size, num_ids)
        self.register_buffer("ids", torch.full(shape, -1, dtype=torch.int64))
        # Where the next key goes, and how many slots are filled: tensors, so that nothing waits for
        # a GPU.
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        # Kept here, because reading the count waits for the device.
        self._has_keys = False

    @property
    def is_empty(self) -> bool:
        """Whether the queue has no key yet."""
        self._has_keys = self._has_keys or bool(self.count)
        return not self._has_keys

    def allowed(self, ids: Tensor | None = None) -> Tensor:
        """Which slots may be negatives: filled ones, and none that shares an id with the query.

        Args:
            ids: [N] or [N, num_ids], integers, the ids of each query; None: ids are ignored.

        Returns:
            [N, size], bool; [1, size] without ids.
        """
        filled = (torch.arange(self.size, device=self.count.device) < self.count)[None]
        return filled if ids is None else filled & different(ids, self.ids)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, ids: Tensor | None = None, peers: Peers = ALONE) -> None:
        """Adds the keys of all Learners in rank order; they replace the oldest ones.

        Args:
            keys: [N, dim], this Learner's keys.
            ids: [N] or [N, num_ids], integers in [0, 2^31), since checkpoints have 32 bits; for
                episodes ``content_ids(batch[EPISODE])``. None: no query has an id of these keys.
            peers: The Learners that share the batch.

        Raises:
            ValueError: If the shapes are wrong, or if all Learners have more keys than the queue.
        """
        if keys.ndim != 2 or keys.shape[1] != self.keys.shape[1]:
            raise ValueError(
                f"keys of this queue must be [N, {self.keys.shape[1]}]; got {tuple(keys.shape)}."
            )
        if ids is None:
            ids = torch.full_like(self.ids[:1], -1).expand(len(keys), *self.ids.shape[1:])
        expected = (len(keys), *self.ids.shape[1:])
        if ids.shape != expected:
            raise ValueError(f"ids must be {list(expected)}, as the keys; got {tuple(ids.shape)}.")
        keys, ids = peers.gather(keys.detach()), peers.gather(ids)
        num = len(keys)
        if num > self.size:
            raise ValueError(
                f"a batch of {num} keys does not fit into a queue of {self.size}: set the size of "
                f"the queue to {num} or more, or use smaller batches."
            )
        slots = (self.pointer + torch.arange(num, device=self.pointer.device)) % self.size
        self.keys.index_copy_(0, slots, keys.to(self.keys.dtype))
        self.ids.index_copy_(0, slots, ids)
        self.pointer.copy_((self.pointer + num) % self.size)
        self.count.add_(num).clamp_(max=self.size)


def different(ids: Tensor, others: Tensor) -> Tensor:
    """[N, M], bool: whether rows share no id, for ids [N] and [M], or [N, I] and [M, I].

    Example:
        >>> different(torch.tensor([[1, 7]]), torch.tensor([[1, 8], [2, 8], [2, 7]])).tolist()
        [[False, True, False]]
    """
    unequal = others[None] != ids[:, None]
    return unequal if unequal.ndim == 2 else unequal.all(dim=-1)


def content_ids(rows: Tensor) -> Tensor:
    """Ids of observations or of other numbers by their content: equal rows have equal ids.

    Different rows have different ids, but for one pair in about 2^31. The hash is a sum of products
    modulo 2^64, so it is exact on every device and for every size of the batch.

    Args:
        rows: [N, ...] or [N], numbers of any type.

    Returns:
        [N], integers in [0, 2^31).

    Example:
        >>> ids = content_ids(torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
        >>> bool(ids[0] == ids[2]), bool(ids[0] == ids[1])
        (True, False)
    """
    data = rows.reshape(len(rows), math.prod(rows.shape[1:])).contiguous().view(torch.uint8)
    if data.shape[1] % 4 == 0:
        data = data.view(torch.int32)  # a quarter of the products
    # splitmix64 (Steele et al. 2014) of the position: pseudo-random odd 64-bit factors.
    factors = torch.arange(1, data.shape[1] + 1, device=rows.device) * -7046029254386353131
    factors = (factors ^ (factors >> 30)) * -4658895280553007687
    factors = (factors ^ (factors >> 27)) * -7723592293110705685
    products = data.long() * (factors ^ (factors >> 31) | 1)
    return (products.sum(dim=1) >> 33) & (2**31 - 1)
