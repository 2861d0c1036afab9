"""Epsilon-greedy and Boltzmann: frequencies, one value per environment, seeds, errors."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rlssl.exploration import boltzmann, epsilon_greedy

ROWS = 40_000
Q_VALUES = np.tile(np.array([1.0, 3.0, 2.0], np.float32), (ROWS, 1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shares(actions: np.ndarray) -> list[float]:
    return (np.bincount(actions, minlength=3) / len(actions)).tolist()


def test_epsilon_greedy_shares_by_hand() -> None:
    # Epsilon 0.3: each action has 0.1, the best one 0.7 more. Std of a share: at most 0.002.
    actions = epsilon_greedy(Q_VALUES, 0.3, rng())
    assert actions.dtype == np.int64
    assert shares(actions) == pytest.approx([0.1, 0.8, 0.1], abs=0.008)


def test_epsilon_at_both_ends() -> None:
    assert shares(epsilon_greedy(Q_VALUES, 0.0, rng())) == [0.0, 1.0, 0.0]
    assert shares(epsilon_greedy(Q_VALUES, 1.0, rng())) == pytest.approx([1 / 3] * 3, abs=0.01)


def test_each_environment_has_its_own_epsilon() -> None:
    epsilon = np.where(np.arange(ROWS) < ROWS // 2, 0.0, 0.6)
    actions = epsilon_greedy(Q_VALUES, epsilon, rng())
    assert shares(actions[: ROWS // 2]) == [0.0, 1.0, 0.0]
    assert shares(actions[ROWS // 2 :]) == pytest.approx([0.2, 0.6, 0.2], abs=0.01)


def test_later_draws_do_not_depend_on_epsilon() -> None:
    first, second = rng(), rng()
    epsilon_greedy(Q_VALUES, 0.0, first)
    epsilon_greedy(Q_VALUES, 0.9, second)
    assert first.random() == second.random()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_boltzmann_shares_are_the_softmax(temperature: float) -> None:
    expected = torch.tensor([1.0, 3.0, 2.0]).div(temperature).softmax(dim=0).tolist()
    assert shares(boltzmann(Q_VALUES, temperature, rng())) == pytest.approx(expected, abs=0.008)


def test_each_environment_has_its_own_temperature() -> None:
    temperature = np.where(np.arange(ROWS) < ROWS // 2, 1e-6, 1e6)
    actions = boltzmann(Q_VALUES, temperature, rng())
    assert shares(actions[: ROWS // 2]) == [0.0, 1.0, 0.0]
    assert shares(actions[ROWS // 2 :]) == pytest.approx([1 / 3] * 3, abs=0.015)


def test_boltzmann_does_not_overflow() -> None:
    huge = np.array([[1e30, 0.0], [-1e30, 0.0]])
    assert boltzmann(huge, 1e-3, rng()).tolist() == [0, 1]


@pytest.mark.parametrize("choose", [epsilon_greedy, boltzmann])
def test_tensors_and_arrays_give_the_same_actions_for_the_same_seed(
    choose: Callable[..., np.ndarray],
) -> None:
    from_array = choose(Q_VALUES, 0.5, rng())
    from_tensor = choose(torch.from_numpy(Q_VALUES).requires_grad_(), 0.5, rng())
    np.testing.assert_array_equal(from_array, from_tensor)
    assert not np.array_equal(from_array, choose(Q_VALUES, 0.5, rng(1)))


def test_first_of_equal_values_is_the_best() -> None:
    assert epsilon_greedy(np.zeros((4, 3)), 0.0, rng()).tolist() == [0, 0, 0, 0]


def test_bad_arguments_are_named() -> None:
    values = np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\]; got 1.5"):
        epsilon_greedy(values, 1.5, rng())
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\]; got nan"):
        epsilon_greedy(values, float("nan"), rng())
    with pytest.raises(ValueError, match=r"epsilon must be a number or \[4\]; got \(4, 1\)"):
        epsilon_greedy(values, np.zeros((4, 1)), rng())
    with pytest.raises(ValueError, match=r"temperature must be > 0; got 0\.0"):
        boltzmann(values, 0.0, rng())
    with pytest.raises(ValueError, match=r"q_values must be \[N, A\]; got \(3,\)"):
        boltzmann(values[0], 1.0, rng())
