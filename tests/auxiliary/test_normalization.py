"""Running statistics against numpy over all rows."""

import pickle
import threading

import numpy as np
import pytest
import torch

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.normalization import (
    DiscountedReturnScale,
    ObservationNormalizer,
    RunningMoments,
)
from rlssl.experiment.checkpoints.exact_state import _kept, _set_kept
from tests.auxiliary.latents import Half, Meeting


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


def test_one_row_divides_nothing() -> None:
    # The std of one return is not known: 3 stays 3. Then the returns are 3 and 0.5 * 3 + 2.5 = 4:
    # std 0.5, so that 2.5 / 0.5 = 5.
    scale = DiscountedReturnScale(gamma=0.5)
    first = scale(torch.tensor([3.0]), [ChunkInfo("a", 1, 0, False)])
    assert first.tolist() == [3.0]
    assert scale(torch.tensor([2.5]), [ChunkInfo("a", 1, 1, False)]).tolist() == [5.0]
    # One row of observations: only its mean is subtracted.
    normalizer = ObservationNormalizer((2,), num_rows=100)
    normalizer.observe(torch.tensor([[1.0, 200.0]]))
    assert normalizer(torch.tensor([[2.0, 203.0]])).tolist() == [[1.0, 3.0]]


@pytest.mark.parametrize("value", [0.1, 1e-3, 777.7, 1e6])
def test_equal_returns_divide_nothing(value: float) -> None:
    # Batches of different sizes: the running mean is rounded, and the variance is not exactly 0.
    scale = DiscountedReturnScale(gamma=0.5)
    for batch, size in enumerate((1, 3, 7, 10, 1)):
        rewards = torch.full((size,), value)
        chunks = [ChunkInfo(f"{batch}-{row}", 1, 0, True) for row in range(size)]
        torch.testing.assert_close(scale(rewards, chunks), rewards)


def test_elements_that_never_change_do_not_shrink_the_divisor_to_rounding_noise() -> None:
    normalizer = ObservationNormalizer((2,), num_rows=100)
    for size in (1, 3, 7, 10):
        normalizer.observe(torch.full((size, 2), 0.1))
    torch.testing.assert_close(normalizer(torch.tensor([[1.1, 0.1]])), torch.tensor([[1.0, 0.0]]))


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


def test_return_that_is_never_reset_continues_over_ends_of_episodes() -> None:
    # 1; 0.99 * 1 + 1 = 1.99; 0.99 * 1.99 + 1 = 2.9701.
    returns = [1.0, 1.99, 2.9701]
    ends = [ChunkInfo(name, 1, 0, True) for name in "abc"]
    whole = DiscountedReturnScale(0.99, episodic=False)
    whole(torch.ones(3), ends)
    parts = DiscountedReturnScale(0.99, episodic=False)
    for chunk in ends:
        parts(torch.ones(1), [chunk])
    for scale in (whole, parts):
        np.testing.assert_allclose(scale.moments.mean, np.mean(returns), rtol=1e-6)
        np.testing.assert_allclose(scale.moments.variance, np.var(returns), rtol=1e-5)
    reset = DiscountedReturnScale(0.99)
    reset(torch.ones(3), ends)
    assert reset.moments.mean.item() == 1.0


def test_of_two_copies_each_new_episode_continues_one_ended_return() -> None:
    # a: 4, then 0.5 * 4 + 1 = 3 and its end. b: 10, still open. c is new and continues a:
    # 0.5 * 3 + 8 = 9.5. b continues: 0.5 * 10 + 2 = 7.
    scale = DiscountedReturnScale(0.5, episodic=False)
    scale(torch.tensor([4.0, 10.0]), [ChunkInfo("a", 1, 0, False), ChunkInfo("b", 1, 0, False)])
    scale(
        torch.tensor([8.0, 1.0, 2.0]),
        [ChunkInfo("c", 1, 0, False), ChunkInfo("a", 1, 1, True), ChunkInfo("b", 1, 1, False)],
    )
    returns = [4.0, 10.0, 3.0, 7.0, 9.5]
    np.testing.assert_allclose(scale.moments.mean, np.mean(returns), rtol=1e-6)
    np.testing.assert_allclose(scale.moments.variance, np.var(returns), rtol=1e-6)


def test_a_restored_run_continues_returns_that_are_never_reset() -> None:
    saved, restored = (DiscountedReturnScale(0.5, episodic=False) for _ in range(2))
    saved(torch.tensor([4.0]), [ChunkInfo("a", 1, 0, True)])
    restored.load_state_dict(saved.state_dict())
    _set_kept(restored, pickle.loads(pickle.dumps(_kept(saved))))
    for scale in (saved, restored):
        scale(torch.tensor([1.0]), [ChunkInfo("b", 1, 0, False)])
        # 4, then 0.5 * 4 + 1 = 3.
        assert scale.moments.mean.item() == 3.5


def test_two_learners_continue_the_returns_that_one_continues() -> None:
    # Six episodes of one step; each continues the one before: of the even ones by one Learner, of
    # the odd ones by the other.
    rewards = torch.tensor([4.0, 1.0, 10.0, 2.0, 8.0, 3.0])
    chunks = [ChunkInfo(name, 1, 0, True) for name in "abcdef"]
    alone = DiscountedReturnScale(0.5, episodic=False)
    alone(rewards, chunks)
    meeting, scales = Meeting(), [DiscountedReturnScale(0.5, episodic=False) for _ in range(2)]

    def learn(rank: int) -> None:
        scales[rank](rewards[rank::2], chunks[rank::2], Half(rank, 6, meeting))

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for scale in scales:
        assert torch.equal(scale.moments.mean, alone.moments.mean)
        assert torch.equal(scale.moments.variance, alone.moments.variance)
