"""Which steps are drawn, how often, and with which weights."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer, annealed_beta
from tests.replay.episodes import ACTIONS, VECTOR, all_steps, vector_chunk


def _counts(buffer: ReplayBuffer, draws: int, **options: Any) -> np.ndarray:
    """How often each drawable step was drawn, in order of the indices."""
    indices = buffer.sample(draws, **options)["indices"]
    known = sorted(all_steps(buffer, **({"beta": 1.0} if options else {})))
    return np.bincount(np.searchsorted(known, indices), minlength=len(known))


def _ten_episodes(buffer: ReplayBuffer) -> None:
    """Adds episodes of 1 to 10 steps; the ring wraps around before the last ones."""
    for length in range(1, 11):
        buffer.add([vector_chunk(0, [1] * length, id_=f"{length}", truncated=length % 2 == 0)])


def test_uniform_draws_are_uniform_over_all_steps_including_last_steps() -> None:
    buffer = ReplayBuffer(40, VECTOR, ACTIONS, seed=0)
    _ten_episodes(buffer)
    # 65 rows were added and 40 are left: 11 + 10 + 9 + 8 of the last four episodes, and 2 of the
    # episode of 6 steps: its last step and its last frame. Steps: 10 + 9 + 8 + 7 + 1 = 35.
    assert len(buffer) == 35
    counts = _counts(buffer, 35_000)
    assert len(counts) == 35
    assert chisquare(counts).pvalue > 0.001
    # The test detects wrong draws: it fails if one step of 35 is twice as likely.
    counts[0] *= 2
    assert chisquare(counts).pvalue < 0.001


def test_few_drawable_rows_among_many_are_drawn_uniformly() -> None:
    buffer = ReplayBuffer(200, VECTOR, ACTIONS, frame_stack=4, seed=0)
    # These episodes start at step 100 with one lookback frame instead of three. Two steps have
    # incomplete stacks and cannot be drawn; the third can. In all, 3 of 35 rows can be drawn.
    for i in range(3):
        rewards = [0] + [1] * 3
        buffer.add([vector_chunk(0, rewards, id_=f"{i}", t_started=100, lookback=1)])
    for i in range(10):
        buffer.add([vector_chunk(0, [1], id_=f"x{i}", t_started=50, truncated=True)])
    assert (len(buffer), buffer.num_rows) == (3, 35)
    assert chisquare(_counts(buffer, 3000)).pvalue > 0.001


def test_same_seed_same_draws() -> None:
    one, two, other = (ReplayBuffer(40, VECTOR, ACTIONS, seed=seed) for seed in (3, 3, 4))
    for buffer in (one, two, other):
        _ten_episodes(buffer)
    draws = [buffer.sample(50)["indices"].tolist() for buffer in (one, two, other)]
    assert draws[0] == draws[1] != draws[2]


def _prioritized(alpha: float = 0.5, **options: Any) -> PrioritizedReplayBuffer:
    buffer = PrioritizedReplayBuffer(20, VECTOR, ACTIONS, seed=0, alpha=alpha, **options)
    buffer.add([vector_chunk(0, [1, 1, 1, 1], terminated=True)])
    return buffer


def test_probabilities_and_weights_by_hand() -> None:
    buffer = _prioritized()
    buffer.update_priorities(np.arange(4), np.array([1.0, 4.0, 9.0, 16.0]))
    # p^0.5 = 1, 2, 3, 4, of 10 in all.
    np.testing.assert_allclose(buffer.priorities(np.arange(4)), [0.1, 0.2, 0.3, 0.4])
    batch = buffer.sample(64, beta=0.5)
    # (N P)^-0.5 with N = 4: 0.4^-0.5 = 1.5811, 0.8^-0.5 = 1.1180, 1.2^-0.5, 1.6^-0.5; divided
    # by the largest, 1.5811: 1, 0.7071, 0.5774, 0.5. Every step is drawn at least 6 times of 64.
    expected = np.array([1.0, 0.70710678, 0.57735027, 0.5])
    assert set(batch["indices"].tolist()) == {0, 1, 2, 3}
    np.testing.assert_allclose(batch["weights"], expected[batch["indices"]], rtol=1e-6)
    # beta = 1 corrects fully: 1, 1/2, 1/3, 1/4. beta = 0 does not correct.
    batch = buffer.sample(64, beta=1.0)
    np.testing.assert_allclose(batch["weights"], 1 / (1 + batch["indices"]), rtol=1e-6)
    assert (buffer.sample(64, beta=0.0)["weights"] == 1.0).all()


def test_weights_are_divided_by_the_largest_weight_of_the_batch() -> None:
    buffer = _prioritized(alpha=1.0)
    buffer.update_priorities(np.arange(4), np.array([1e-6, 1.0, 1.0, 2.0]))
    batch = buffer.sample(8, beta=1.0)
    # Step 0 has a probability of 1 in 4 million and is not drawn: the weights are 1 and 1/2.
    assert 0 not in batch["indices"]
    np.testing.assert_allclose(batch["weights"], np.array([0, 1, 1, 0.5])[batch["indices"]])


def test_draws_are_in_proportion_to_the_priorities() -> None:
    buffer = PrioritizedReplayBuffer(40, VECTOR, ACTIONS, seed=0, alpha=0.7)
    _ten_episodes(buffer)
    indices = np.array(sorted(all_steps(buffer, beta=1.0)))
    priorities = np.random.default_rng(0).random(35) * 5
    buffer.update_priorities(indices, priorities)
    expected = priorities**0.7 / (priorities**0.7).sum()
    # Batches of 5, one draw per fifth of the total: the same mean as independent draws, and less
    # variance.
    drawn = np.concatenate([buffer.sample(5, beta=1.0)["indices"] for _ in range(7000)])
    counts = np.bincount(np.searchsorted(indices, drawn), minlength=35)
    assert chisquare(counts, expected * 35_000).pvalue > 0.001
    assert chisquare(counts, np.full(35, 1000)).pvalue < 1e-9


def test_new_steps_get_the_largest_priority_so_far() -> None:
    buffer = _prioritized(alpha=1.0)
    np.testing.assert_allclose(buffer.priorities(np.arange(4)), 0.25)  # 1 each
    buffer.update_priorities(np.array([0, 1]), np.array([6.0, 0.5]))
    buffer.update_priorities(np.array([0]), np.array([0.5]))  # the largest stays 6
    buffer.add([vector_chunk(0, [1], id_="new")])
    # 0.5, 0.5, 1, 1 and 6 of 9; the first episode has the rows 0 to 4.
    np.testing.assert_allclose(buffer.priorities(np.array([0, 2, 5])), np.array([0.5, 1, 6]) / 9)


def test_priorities_of_replaced_steps_are_ignored() -> None:
    buffer = PrioritizedReplayBuffer(6, VECTOR, ACTIONS, seed=0, alpha=1.0)
    buffer.add([vector_chunk(0, [1] * 5, id_="a", terminated=True)])  # rows 0 to 5
    buffer.add([vector_chunk(0, [1] * 2, id_="b")])  # rows 6 to 8 replace rows 0 to 2
    buffer.update_priorities(np.array([0, 1, 3]), np.array([100.0, 100.0, 3.0]))
    # Steps 3, 4 of the first episode and 6, 7 of the second: 3, 1, 1, 1.
    np.testing.assert_allclose(
        buffer.priorities(np.array([3, 4, 6, 7])), np.array([3, 1, 1, 1]) / 6
    )
    assert buffer.priorities(np.array([0])) == 0.0
    assert buffer.max_priority == 3.0


def test_step_with_priority_0_can_still_be_drawn() -> None:
    buffer = _prioritized(alpha=1.0, min_priority=0.01)
    buffer.update_priorities(np.arange(4), np.array([0.0, 0.0, 0.0, 0.97]))
    np.testing.assert_allclose(buffer.priorities(np.arange(4)), [0.01, 0.01, 0.01, 0.97])


def test_uniform_draws_from_a_prioritized_buffer() -> None:
    buffer = _prioritized()
    buffer.update_priorities(np.arange(4), np.array([1e-6, 1e-6, 1e-6, 100.0]))
    batch = buffer.sample(4000, uniform=True)
    assert chisquare(np.bincount(batch["indices"], minlength=4)).pvalue > 0.001
    assert (batch["weights"] == 1.0).all()


def test_beta_by_hand() -> None:
    # From 0.4 to 1 over 600 steps: 0.001 a step.
    betas = [annealed_beta(steps, anneal_env_steps=600) for steps in (0, 100, 600, 10**9)]
    assert betas == pytest.approx([0.4, 0.5, 1.0, 1.0])
    assert annealed_beta(50, start=1.0, end=0.0, anneal_env_steps=200) == 0.75


@pytest.mark.parametrize("arguments", [{"env_steps": -1}, {"anneal_env_steps": 0}])
def test_impossible_schedules_are_errors(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        annealed_beta(**{"env_steps": 0, "anneal_env_steps": 10} | arguments)
