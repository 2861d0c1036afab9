"""generalized_advantage: values by hand, comparison with the defining sum, any chunk lengths."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from rlssl.losses import generalized_advantage, normalize_advantage


def reference_advantage(
    rewards: NDArray,
    values: NDArray,
    next_values: NDArray,
    terminated: NDArray,
    *,
    gamma: float,
    lambda_: float,
) -> NDArray:
    """One chunk, from the definition: A_t = sum_k (gamma * lambda)^k delta_{t+k}."""
    length = len(rewards)
    deltas = [
        rewards[t] + (0.0 if terminated[t] else gamma * next_values[t]) - values[t]
        for t in range(length)
    ]
    return np.array(
        [
            sum((gamma * lambda_) ** (k - t) * deltas[k] for k in range(t, length))
            for t in range(length)
        ]
    )


def random_chunks(lengths: Sequence[int]) -> tuple[NDArray, ...]:
    """Columns of concatenated chunks; every second chunk ends by termination."""
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    ended, terminated = np.zeros(rows, bool), np.zeros(rows, bool)
    ended[np.cumsum(lengths) - 1] = True
    terminated[np.cumsum(lengths)[::2] - 1] = True
    rewards, values, next_values = rng.normal(size=(3, rows))
    return rewards, values, next_values, terminated, ended


def test_chunks_by_hand_terminated_and_truncated() -> None:
    # gamma 0.5, lambda 0.5. Chunk 1, terminated: deltas 1 + 0.5 * 2 - 1 = 1, then 3 + 0 - 2 = 1
    # (the 9 is not read); A = [1 + 0.25 * 1, 1]. Chunk 2, truncated: 1 + 0.5 * 4 - 0 = 3.
    advantages = generalized_advantage(
        np.array([1.0, 3.0, 1.0]),
        np.array([1.0, 2.0, 0.0]),
        np.array([2.0, 9.0, 4.0]),
        np.array([False, True, False]),
        np.array([False, True, True]),
        gamma=0.5,
        lambda_=0.5,
    )
    np.testing.assert_allclose(advantages, [1.25, 1.0, 3.0])


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    gamma=st.sampled_from([0.0, 0.9, 1.0]),
    lambda_=st.sampled_from([0.0, 0.95, 1.0]),
)
def test_each_chunk_equals_the_slow_sum_and_does_not_depend_on_other_chunks(
    lengths: list[int], gamma: float, lambda_: float
) -> None:
    columns = random_chunks(lengths)
    actual = generalized_advantage(*columns, gamma=gamma, lambda_=lambda_)
    bounds = np.cumsum([0, *lengths])
    expected = [
        reference_advantage(*(c[start:stop] for c in columns[:4]), gamma=gamma, lambda_=lambda_)
        for start, stop in itertools.pairwise(bounds)
    ]
    np.testing.assert_allclose(actual, np.concatenate(expected), rtol=1e-9, atol=1e-9)


def test_lambda_one_gives_the_discounted_return_minus_the_value() -> None:
    # Rewards 1, 1, 1, terminated, gamma 0.5: returns 1.75, 1.5, 1.
    rewards, values = torch.ones(3), torch.tensor([5.0, 6.0, 7.0])
    next_values = torch.tensor([6.0, 7.0, 8.0])
    last = torch.tensor([False, False, True])
    advantages = generalized_advantage(
        rewards, values, next_values, last, last, gamma=0.5, lambda_=1.0
    )
    torch.testing.assert_close(advantages + values, torch.tensor([1.75, 1.5, 1.0]))


def test_next_value_of_a_terminal_row_is_not_read() -> None:
    last = np.array([True])
    one, nan = np.array([1.0]), np.array([np.nan])
    assert generalized_advantage(one, one, nan, last, last, gamma=0.9, lambda_=0.9) == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_array_type_and_dtype_are_kept(dtype: DTypeLike) -> None:
    columns = [c.astype(dtype) if c.dtype == float else c for c in random_chunks([3, 2])]
    from_numpy = generalized_advantage(*columns, gamma=0.9, lambda_=0.9)
    tensors = [torch.from_numpy(c) for c in columns]
    tensors[1].requires_grad_()
    from_torch = generalized_advantage(*tensors, gamma=0.9, lambda_=0.9)
    assert isinstance(from_numpy, np.ndarray) and from_numpy.dtype == dtype
    assert isinstance(from_torch, torch.Tensor) and not from_torch.requires_grad
    np.testing.assert_array_equal(from_numpy, from_torch.numpy())


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_cause_no_warning() -> None:
    columns = random_chunks([4])
    for column in columns:
        column.flags.writeable = False
    assert generalized_advantage(*columns, gamma=0.9, lambda_=0.9).shape == (4,)


def test_zero_rows_give_zero_advantages() -> None:
    empty = np.zeros(0)
    result = generalized_advantage(empty, empty, empty, empty, empty, gamma=0.9, lambda_=0.9)
    assert result.shape == (0,)


def test_bad_arguments_are_named() -> None:
    rewards, values, next_values, terminated, ended = random_chunks([3])
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]; got 1.5"):
        generalized_advantage(
            rewards, values, next_values, terminated, ended, gamma=1.5, lambda_=0.9
        )
    with pytest.raises(ValueError, match=r"'values': \(3, 1\)"):
        generalized_advantage(
            rewards, values[:, None], next_values, terminated, ended, gamma=0.9, lambda_=0.9
        )
    with pytest.raises(ValueError, match="last row"):
        generalized_advantage(
            rewards, values, next_values, terminated, ended & False, gamma=0.9, lambda_=0.9
        )


def test_normalized_advantages_have_mean_0_and_std_1_over_everyone() -> None:
    # Mean 3, std sqrt((4 + 0 + 4) / (3 - 1)) = 2: (7 - 3) / 2 = 2.
    everyone = torch.tensor([1.0, 3.0, 5.0])
    found = normalize_advantage(torch.tensor([1.0, 7.0]), everyone)
    torch.testing.assert_close(found, torch.tensor([-1.0, 2.0]))


@pytest.mark.parametrize("value", [0.0, 0.1, -777.7])
def test_one_advantage_is_left_as_it_is(value: float) -> None:
    one = torch.tensor([value])
    assert torch.equal(normalize_advantage(one, one), one)


@pytest.mark.parametrize("value", [0.0, 0.1, -777.7, 1e6])
@pytest.mark.parametrize("num", [2, 3, 1000])
def test_equal_advantages_become_0(value: float, num: int) -> None:
    # The mean may be rounded; the rounding error must not be divided by itself.
    rows = torch.full((num,), value)
    found = normalize_advantage(rows, rows)
    torch.testing.assert_close(found, torch.zeros(num), rtol=0, atol=1e-6 * abs(value))
