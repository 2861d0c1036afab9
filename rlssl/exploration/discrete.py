"""Choices among discrete actions by their values, with chance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def epsilon_greedy(
    q_values: NDArray | Tensor, epsilon: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The best action, or with probability epsilon any one, the best included.

    Args:
        q_values: [N, A], array, or tensor on any device.
        epsilon: A number, or [N], one an environment; in [0, 1].
        rng: Drawn from in every call, whatever epsilon is.

    Returns:
        [N], counted from 0. Of equal values the first is the best.

    Raises:
        ValueError: If the shapes do not fit each other, or an epsilon is outside [0, 1].

    Source:
        Sutton and Barto 2018, Reinforcement Learning, section 2.2.
    """
    values = _rows(q_values)
    num_rows, num_actions = values.shape
    if not np.all((np.asarray(epsilon) >= 0) & (np.asarray(epsilon) <= 1)):
        raise ValueError(f"epsilon must be in [0, 1]; got {epsilon!r}.")
    explores = rng.random(num_rows) < _a_row("epsilon", epsilon, num_rows)
    drawn = rng.integers(num_actions, size=num_rows)
    return np.where(explores, drawn, values.argmax(axis=1))


def boltzmann(
    q_values: NDArray | Tensor, temperature: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draws actions from ``softmax(q_values / temperature)``.

    Args:
        q_values: [N, A], array, or tensor on any device.
        temperature: A number, or [N], one an environment; > 0, units of the values.
        rng: UpdateRNG.

    Returns:
        [N], counted from 0.

    Raises:
        ValueError: If the shapes do not fit each other, or a temperature is not > 0.

    Source:
        Sutton 1990; by the largest of the logits plus Gumbel noise (Gumbel 1954), which never
        exponentiates a value.
    """
    values = _rows(q_values)
    if not np.all(np.asarray(temperature) > 0):
        raise ValueError(f"temperature must be > 0; got {temperature!r}.")
    logits = values / _a_row("temperature", temperature, len(values)).reshape(-1, 1)
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def _rows(q_values: NDArray | Tensor) -> NDArray:
    values = q_values.detach().cpu().numpy() if isinstance(q_values, Tensor) else q_values
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"q_values must be [N, A]; got {tuple(values.shape)}.")
    return values


def _a_row(name: str, value: ArrayLike, num_rows: int) -> NDArray:
    """A number or [N] as an array that broadcasts to [N]."""
    array = np.asarray(value, np.float64)
    if array.shape not in ((), (num_rows,)):
        raise ValueError(f"{name} must be a number or [{num_rows}]; got {array.shape}.")
    return array
