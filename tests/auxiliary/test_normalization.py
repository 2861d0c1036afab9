"""Running statistics against numpy over all rows."""

import numpy as np
import torch

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.normalization import (
    DiscountedReturnScale,
    ObservationNormalizer,
    RunningMoments,
)


def test_moments_of_parts_equal_moments_of_the_whole() -> None:
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 4 + 100
    moments = RunningMoments((3,))
    for part in (rows[:1], rows[1:20], rows[20:]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean, rows.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, rows.numpy().var(0), rtol=1e-4)


def test_observations_are_normalized_by_the_first_rows_only() -> None:
    normalizer = ObservationNormalizer((2,), num_rows=2)
    normalizer.observe(torch.tensor([[0.0, 0.0], [2.0, 6.0]]))
    normalizer.observe(torch.tensor([[1000.0, 1000.0]]))
    # Means 1 and 3; stds 1 and 3, whose mean is 2: (3 - 1) / 2 = 1 and (3 - 3) / 2 = 0.
    torch.testing.assert_close(normalizer(torch.tensor([[3.0, 3.0]])), torch.tensor([[1.0, 0.0]]))


def test_constant_observations_stay_finite() -> None:
    normalizer = ObservationNormalizer((2,), num_rows=10)
    normalizer.observe(torch.ones(4, 2))
    assert torch.equal(normalizer(torch.ones(1, 2)), torch.zeros(1, 2))


def test_discounted_return_continues_along_an_episode_across_calls() -> None:
    scale = DiscountedReturnScale(gamma=0.5)
    scale(torch.tensor([4.0, 1.0, 10.0]), [ChunkInfo("a", 2, 0, False), ChunkInfo("b", 1, 0, True)])
    scale(torch.tensor([1.0, 8.0]), [ChunkInfo("a", 1, 2, False), ChunkInfo("c", 1, 0, False)])
    # Returns: a: 4, then 0.5*4+1 = 3; b: 10; a again: 0.5*3+1 = 2.5; c: 8.
    returns = np.array([4.0, 3.0, 10.0, 2.5, 8.0])
    np.testing.assert_allclose(scale.moments.mean, returns.mean(), rtol=1e-6)
    np.testing.assert_allclose(scale.moments.variance, returns.var(), rtol=1e-6)


def test_discounted_return_continues_in_the_next_chunk_of_the_same_batch() -> None:
    scale = DiscountedReturnScale(gamma=0.5)
    scale(torch.tensor([4.0, 1.0]), [ChunkInfo("a", 1, 0, False), ChunkInfo("a", 1, 1, True)])
    # 4, then 0.5*4+1 = 3: mean 3.5.
    assert scale.moments.mean.item() == 3.5
