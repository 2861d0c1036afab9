"""Actions without distribution objects: equal to RLlib's classes, with the right frequencies."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchSquashedGaussian,
)

from rlssl.rollouts.action_sampling import action_sampler

CASES = [(TorchCategorical, 5), (TorchDiagGaussian, 6)]


def inputs(width: int, num: int = 50, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(num, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("distribution, width", CASES)
def test_log_probabilities_are_rllibs(distribution: Any, width: int, explore: bool) -> None:
    given = inputs(width)
    sampler = action_sampler(distribution)
    assert sampler is not None
    generator = np.random.default_rng(0) if explore else None
    sampled = {key: torch.as_tensor(value) for key, value in sampler(given, generator).items()}
    expected = distribution.from_logits(given)
    logp = expected.logp(sampled[Columns.ACTIONS])
    if not explore:
        logp = torch.zeros(50)
    torch.testing.assert_close(sampled[Columns.ACTION_LOGP], logp, rtol=1e-5, atol=1e-5)
    assert sampled[Columns.ACTION_LOGP].dtype == torch.float32
    assert torch.equal(sampled[Columns.ACTION_DIST_INPUTS], given)
    if not explore:
        best = expected.to_deterministic().sample()
        assert torch.equal(sampled[Columns.ACTIONS].to(best.dtype), best)


def test_large_logits_stay_finite() -> None:
    sampler = action_sampler(TorchCategorical)
    assert sampler is not None
    sampled = sampler(torch.tensor([[1e4, 0.0, -1e4]]), np.random.default_rng(0))
    assert sampled[Columns.ACTIONS] == 0 and sampled[Columns.ACTION_LOGP] == 0.0


class DrawsZeros:
    """A generator whose exponential draws are 0 at chosen places, else 1."""

    def __init__(self, zeros: list[tuple[int, int]], value: float = 0.0) -> None:
        self.zeros, self.value = zeros, value

    def standard_exponential(self, size: Any, dtype: Any) -> np.ndarray:
        drawn = np.ones(size, dtype)
        for place in self.zeros:
            drawn[place] = self.value
        return drawn


@pytest.mark.parametrize("value", [0.0, 1e-45])
@pytest.mark.parametrize("masked", [-np.inf, -1e9, np.finfo(np.float32).min])
def test_a_draw_of_zero_does_not_choose_an_impossible_action(value: float, masked: float) -> None:
    sampler = action_sampler(TorchCategorical)
    assert sampler is not None
    logits = torch.tensor([[0.0, masked, 1.0], [masked, 0.0, masked]])
    # The draw is 0 (or denormal) for the impossible action 1 and for the impossible action 2. The
    # noise of the smallest normal number is 87.3, so -1e9 + 87.3 is still less than 0 and 1. All
    # other draws are 1, whose noise is 0: the largest logits, actions 2 and 1, are chosen.
    sampled = sampler(logits, DrawsZeros([(0, 1), (1, 2)], value))  # type: ignore[arg-type]
    assert sampled[Columns.ACTIONS].tolist() == [2, 1]
    assert np.isfinite(sampled[Columns.ACTION_LOGP]).all()


def test_categories_have_the_frequencies_of_their_probabilities() -> None:
    sampler = action_sampler(TorchCategorical)
    assert sampler is not None
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(20_000, -1)
    actions = sampler(logits, np.random.default_rng(0))[Columns.ACTIONS]
    frequencies = np.bincount(actions, minlength=4) / 20_000
    # Standard deviation of a frequency of 0.5: sqrt(0.25 / 20000) = 0.0035.
    np.testing.assert_allclose(frequencies, probabilities, atol=4 * 0.0035)


def test_gaussian_has_its_mean_and_standard_deviation() -> None:
    sampler = action_sampler(TorchDiagGaussian)
    assert sampler is not None
    given = torch.tensor([1.0, -2.0, 0.0, float(np.log(3.0))]).expand(20_000, -1)
    actions = sampler(given, np.random.default_rng(0))[Columns.ACTIONS]
    # Standard deviations of the means: 1 / sqrt(20000) = 0.007, and 3 x 0.007 = 0.021.
    np.testing.assert_allclose(actions.mean(0), [1.0, -2.0], atol=0.08)
    np.testing.assert_allclose(actions.std(0), [1.0, 3.0], rtol=0.03)


def test_other_distributions_have_no_sampler() -> None:
    assert action_sampler(TorchSquashedGaussian) is None
