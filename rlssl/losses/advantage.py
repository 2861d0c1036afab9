"""Advantages: how much better an action turned out than the critic expected."""

from typing import Any, TypeVar

import torch
from torch import Tensor

# numpy.ndarray or Tensor. numpy is not imported, because this package needs only torch.
ArrayT = TypeVar("ArrayT")


def generalized_advantage(
    rewards: ArrayT,
    values: ArrayT,
    next_values: ArrayT,
    terminated: ArrayT,
    ended: ArrayT,
    *,
    gamma: float,
    lambda_: float,
) -> ArrayT:
    """Generalized advantage estimates (GAE) over concatenated chunks of experience.

    ::

        delta_t = r_t + gamma * next_value_t * (1 - terminated_t) - value_t
        A_t     = delta_t + gamma * lambda_ * (1 - ended_t) * A_{t+1}

    A chunk that ends by a time limit or by the end of a fragment bootstraps from its last
    ``next_value``. Only ``terminated`` removes the bootstrap. The critic's target is
    ``advantage + value``.

    Args:
        rewards: [M], rows of all chunks, one chunk after the other, each in time order.
        values: [M], the critic's value of the row's observation.
        next_values: [M], the critic's value of the next observation of the same episode. At the
            last row this is the final observation, not the one of the next reset. Not read where
            ``terminated``.
        terminated: [M], bool or 0/1: the environment ended the episode here.
        ended: [M], bool or 0/1: last row of its chunk, for any reason.
        gamma: Discount per agent step, in [0, 1].
        lambda_: Decay of the average over horizons, in [0, 1]. 0: one step; 1: whole chunk.

    Returns:
        [M], a numpy array, or a tensor on the device of ``rewards``, as ``rewards`` is. The dtype
        is the wider floating dtype of rewards and values. No gradient.

    Raises:
        ValueError: If shapes differ or are not [M], if the last row does not end a chunk, or if
            ``gamma`` or ``lambda_`` is outside [0, 1].

    Example:
        One chunk of two steps, terminated: deltas 1 + 0.5 * 2 - 1 = 1 and 3 - 2 = 1.

        >>> import torch
        >>> rewards, values = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0])
        >>> next_values, last = torch.tensor([2.0, 9.0]), torch.tensor([False, True])
        >>> generalized_advantage(
        ...     rewards, values, next_values, last, last, gamma=0.5, lambda_=0.5
        ... ).tolist()
        [1.25, 1.0]

    Source:
        Schulman et al. 2016, arXiv:1506.02438, eq. 16.
    """
    columns = {
        "rewards": _column(rewards),
        "values": _column(values),
        "next_values": _column(next_values),
        "terminated": _column(terminated).bool(),
        "ended": _column(ended).bool(),
    }
    _check(columns, gamma=gamma, lambda_=lambda_)
    # where instead of a product: an infinite value at a terminal row would give 0 * inf = nan.
    bootstrap = torch.where(columns["terminated"], 0.0, columns["next_values"])
    deltas = columns["rewards"] + gamma * bootstrap - columns["values"]
    carries = gamma * lambda_ * (~columns["ended"]).to(deltas.dtype)
    advantages = torch.tensor(_backward_scan(deltas, carries), dtype=deltas.dtype)
    if isinstance(rewards, Tensor):
        return advantages.to(rewards.device)  # type: ignore[return-value]
    return advantages.numpy()  # type: ignore[return-value]


def normalize_advantage(advantages: Tensor, everyone: Tensor) -> Tensor:
    """Gives advantages the mean 0 and the standard deviation (std) 1.

    ``(advantage - mean) / (std + 1e-8)``, with the std of a sample (divided by the number of rows
    - 1). One row has no std: it is returned unchanged. If all rows are equal up to rounding, only
    the mean is subtracted.

    Args:
        advantages: [M], the rows to normalize.
        everyone: [N], the rows that give mean and std: of all Learners, without padding.

    Returns:
        [M].

    Example:
        Mean 3, std sqrt((4 + 0 + 4) / 2) = 2.

        >>> import torch
        >>> rows = torch.tensor([1.0, 3.0, 5.0])
        >>> normalize_advantage(rows, rows)
        tensor([-1.,  0.,  1.])
        >>> normalize_advantage(rows[:1], rows[:1])
        tensor([1.])
    """
    if len(everyone) < 2:
        return advantages
    mean, std = everyone.mean(), everyone.std()
    is_spread = std > torch.finfo(std.dtype).eps * mean.abs()
    return (advantages - mean) / torch.where(is_spread, std + 1e-8, 1.0)


def _column(column: Any) -> Tensor:
    # torch.tensor copies: torch warns about the read-only arrays of Ray's object store.
    return column.detach().cpu() if isinstance(column, Tensor) else torch.tensor(column)


def _backward_scan(deltas: Tensor, carries: Tensor) -> list[float]:
    """Solves A_t = delta_t + carry_t * A_{t+1}, from the last row to the first.

    Uses Python floats: 10,000 rows take about 1 ms, for chunks of any length. One tensor operation
    per row would take about 100 ms.
    """
    advantages, advantage = [], 0.0
    for delta, carry in zip(reversed(deltas.tolist()), reversed(carries.tolist()), strict=True):
        advantage = delta + carry * advantage
        advantages.append(advantage)
    return advantages[::-1]


def _check(columns: dict[str, Tensor], *, gamma: float, lambda_: float) -> None:
    shapes = {name: tuple(column.shape) for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or columns["rewards"].ndim != 1:
        raise ValueError(f"all arguments must be [M], with the same M; got {shapes}.")
    for name, number in (("gamma", gamma), ("lambda_", lambda_)):
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must be in [0, 1]; got {number}.")
    ended = columns["ended"]
    if len(ended) and not ended[-1]:
        raise ValueError("ended must be True at the last row: nothing follows it.")
