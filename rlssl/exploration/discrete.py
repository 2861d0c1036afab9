"""Random choice of discrete actions, based on their values."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def epsilon_greedy(
    q_values: NDArray | Tensor, epsilon: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Chooses the best action, or with probability epsilon a uniformly random action.

    Args:
        q_values: [N, A], array, or tensor on any device.
        epsilon: A number, or [N], one per environment; in [0, 1].
        rng: Used in every call, for any epsilon, so later draws do not depend on epsilon.

    Returns:
        [N], actions counted from 0. Of equal values, the first is the best.

    Raises:
        ValueError: If the shapes do not fit each other, or an epsilon is outside [0, 1].

    Example:
        >>> q_values = np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 0.0]])
        >>> epsilon_greedy(q_values, 0.0, np.random.default_rng(0)).tolist()
        [1, 0]

    Source:
        Sutton and Barto 2018, Reinforcement Learning, section 2.2.
    """
    values = _values_of(q_values)
    num_rows, num_actions = values.shape
    if not np.all((np.asarray(epsilon) >= 0) & (np.asarray(epsilon) <= 1)):
        raise ValueError(f"epsilon must be in [0, 1]; got {epsilon!r}.")
    explores = rng.random(num_rows) < _per_row("epsilon", epsilon, num_rows)
    drawn = rng.integers(num_actions, size=num_rows)
    return np.where(explores, drawn, values.argmax(axis=1))


def boltzmann(
    q_values: NDArray | Tensor, temperature: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Samples actions from ``softmax(q_values / temperature)``.

    Args:
        q_values: [N, A], array, or tensor on any device.
        temperature: A number, or [N], one per environment; > 0, units of the values.
        rng: Random generator.

    Returns:
        [N], actions counted from 0.

    Raises:
        ValueError: If the shapes do not fit each other, or a temperature is not > 0.

    Example:
        At a very low temperature, the best action is certain.

        >>> q_values = np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 0.0]])
        >>> boltzmann(q_values, 1e-6, np.random.default_rng(0)).tolist()
        [1, 0]

    Source:
        Sutton 1990. The action is the argmax of the logits plus Gumbel noise (Gumbel 1954), so no
        value is exponentiated and none overflows.
    """
    values = _values_of(q_values)
    if not np.all(np.asarray(temperature) > 0):
        raise ValueError(f"temperature must be > 0; got {temperature!r}.")
    logits = values / _per_row("temperature", temperature, len(values)).reshape(-1, 1)
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def _values_of(q_values: NDArray | Tensor) -> NDArray:
    """[N, A] as an array."""
    values = q_values.detach().cpu().numpy() if isinstance(q_values, Tensor) else q_values
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"q_values must be [N, A]; got {tuple(values.shape)}.")
    return values


def _per_row(name: str, value: ArrayLike, num_rows: int) -> NDArray:
    """A number or [N] as an array that broadcasts to [N]."""
    array = np.asarray(value, np.float64)
    if array.shape not in ((), (num_rows,)):
        raise ValueError(f"{name} must be a number or [{num_rows}]; got {array.shape}.")
    return array
