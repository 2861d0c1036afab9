"""Every statistic equals a number calculated by hand, or a slow reference."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from rlssl.analysis.statistics import (
    bootstrap_interval,
    iqm,
    mean_half_width,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_interval,
    stratified_bootstrap_interval,
    wilson_bounds,
    wilson_interval,
)


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    # Eight scores: two are dropped at each end, the outlier too; (2 + 3 + 4 + 5) / 4 = 3.5.
    assert iqm([1000.0, 0, 1, 2, 3, 4, 5, 6]) == 3.5


def test_iqm_drops_only_whole_scores() -> None:
    # Five scores: floor(5 / 4) = 1 is dropped at each end, (2 + 3 + 7) / 3 = 4.
    assert iqm([1, 2, 3, 7, 100]) == 4.0


def test_iqm_of_three_seeds_is_their_mean() -> None:
    assert iqm([0, 3, 9]) == 4.0  # floor(3 / 4) = 0 dropped; 12 / 3


def test_iqm_pools_tasks_and_seeds() -> None:
    assert iqm([[0, 1, 2, 3], [4, 5, 6, 1000]]) == 3.5  # the middle four: 2, 3, 4, 5


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_iqm_equals_scipys_trimmed_mean(scores: list[float]) -> None:
    assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25, axis=None), rel=1e-9, abs=1e-9)


def test_mean_interval_of_three_scores_is_students_t_interval() -> None:
    # mean 2, sample std 1, t(0.975, 2) = 4.302653; 4.302653 * 1 / sqrt(3) = 2.484138
    interval = mean_interval([1, 2, 3])
    assert interval.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert interval.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_mean_interval_narrows_with_the_confidence() -> None:
    # Two scores 0 and 2: std sqrt(2), / sqrt(2) = 1; t(0.75, 1) = tan(pi / 4) = 1.
    assert mean_interval([0, 2], confidence=0.5) == pytest.approx((0.0, 2.0))


def test_half_width_is_computed_over_seeds_for_every_column() -> None:
    # Columns 0, 2 (half width 1, as above) and 5, 5 (no spread).
    assert mean_half_width([[0, 5], [2, 5]], confidence=0.5) == pytest.approx([1.0, 0.0])


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 seeds; got 1"):
        mean_interval([3.0])


@pytest.mark.parametrize(
    "num_solved, num_seeds, expected",
    [
        # z^2 = 3.841459. One end is z^2 / (n + z^2) away from 0 or 1: 0.277533, 0.434482.
        (0, 10, (0.0, 0.277533)),
        (5, 5, (1 - 0.434482, 1.0)),
        # (0.5 + 0.480182 +- sqrt(0.960365 * (0.25 + 0.240091))) / 1.960365, the root is 0.686051.
        (2, 4, (0.150039, 0.849961)),
    ],
)
def test_wilson_interval_of_solved_or_not_scores(
    num_solved: int, num_seeds: int, expected: tuple[float, float]
) -> None:
    scores = [1.0] * num_solved + [0.0] * (num_seeds - num_solved)
    assert wilson_interval(scores) == pytest.approx(expected, abs=1e-6)


def coverage(
    bounds: Callable[..., Any], num_seeds: int, rates: np.ndarray, generator: np.random.Generator
) -> float:
    """Share of experiments whose interval contains the true rate; a rate for each experiment."""
    solved = generator.random((num_seeds, len(rates))) < rates
    low, high = bounds(solved.astype(float))
    return float(np.mean((low <= rates) & (rates <= high)))


@pytest.mark.parametrize("num_seeds", [5, 10])
def test_95_percent_wilson_intervals_of_solved_or_not_scores_contain_the_truth(
    num_seeds: int,
) -> None:
    def t_bounds(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = mean_half_width(scores)
        return scores.mean(0) - half, scores.mean(0) + half

    generator = np.random.default_rng(0)
    rates = generator.uniform(size=20_000)
    assert 0.94 < coverage(wilson_bounds, num_seeds, rates, generator) < 0.97
    for rate in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95):
        assert coverage(wilson_bounds, num_seeds, np.full(20_000, rate), generator) > 0.88
    # Student's t does not reach it: if all seeds solved the task, its interval has no width.
    all_solved = 0.9**num_seeds  # 0.59 of five seeds, 0.35 of ten
    assert coverage(t_bounds, num_seeds, np.full(20_000, 0.9), generator) < 1.02 - all_solved


def test_wilson_intervals_of_shares_contain_the_truth_if_seeds_differ() -> None:
    # Each seed learns (0.98) or not (0.02), and plays 20 episodes; the mean rate is 0.788.
    generator = np.random.default_rng(0)
    for num_seeds in (3, 5, 10):
        learned = generator.random((num_seeds, 20_000)) < 0.8
        shares = generator.binomial(20, np.where(learned, 0.98, 0.02)) / 20
        low, high = wilson_bounds(shares)
        assert np.mean((low <= 0.788) & (high >= 0.788)) > 0.93


def test_wilson_interval_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match=r"shares in \[0, 1\]; got 1.5"):
        wilson_interval([0.5, 1.5])


def test_bootstrap_interval_equals_the_exact_distribution_of_resamples() -> None:
    # All 27 resamples of 0, 3, 6 are equally likely; their means are 0 .. 6, with shares
    # 1, 3, 6, 7, 6, 3, 1 of 27. The 10 % quantile is 1 (1/27 = 0.04 below, 4/27 = 0.15 up to it).
    means = [sum(draw) / 3 for draw in itertools.product([0, 3, 6], repeat=3)]
    assert [means.count(value) for value in range(7)] == [1, 3, 6, 7, 6, 3, 1]
    interval = bootstrap_interval([0, 3, 6], lambda x: float(x.mean()), confidence=0.8)
    assert interval == (1.0, 5.0)


def test_bootstrap_depends_only_on_its_seed() -> None:
    scores = np.linspace(0, 1, 7) ** 2
    first = bootstrap_interval(scores, num_resamples=50, seed=1)
    assert first == bootstrap_interval(scores, num_resamples=50, seed=1)
    assert first != bootstrap_interval(scores, num_resamples=50, seed=2)


def test_stratified_bootstrap_keeps_each_score_in_its_task() -> None:
    # No spread within a task: every resample equals the experiment, mean (0 + 10) / 2.
    scores = [[0, 0, 0], [10, 10, 10]]
    assert stratified_bootstrap_interval(scores, lambda x: float(x.mean())) == (5.0, 5.0)


def test_stratified_bootstrap_resamples_each_task_independently() -> None:
    # If both tasks used the same draw of seeds, every resample would have the mean 1.
    scores = [[0, 1, 2], [2, 1, 0]]
    interval = stratified_bootstrap_interval(
        scores, lambda x: float(x.mean()), num_resamples=500, confidence=0.9
    )
    assert interval.low < 1.0 < interval.high


def test_performance_profile_counts_the_runs_above_each_threshold() -> None:
    # Above 0: 1, 1, 2 of 4; above 1: only the 2 (a run at the threshold is not above it).
    profile = performance_profile([[0, 1], [1, 2]], [-1, 0, 1, 2])
    assert profile.tolist() == [1.0, 0.75, 0.25, 0.0]


def test_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    # Pairs (2,1) win, (2,2) tie, (4,1) win, (4,2) win: 3.5 of 4.
    assert probability_of_improvement([2, 4], [1, 2]) == 0.875


def test_probability_of_improvement_averages_tasks_with_different_numbers_of_seeds() -> None:
    # Task 1: both seeds beat all three, 1. Task 2: one of two beats all three, 0.5. Mean 0.75.
    assert probability_of_improvement([[5, 5], [0, 5]], [[1, 1, 1], [1, 1, 1]]) == 0.75


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
)
def test_probability_of_improvement_and_its_reverse_sum_to_one(x: list[int], y: list[int]) -> None:
    total = probability_of_improvement(x, y) + probability_of_improvement(y, x)
    assert total == pytest.approx(1.0)


def test_interval_of_a_certain_improvement_is_a_point() -> None:
    assert probability_of_improvement_interval([5, 6], [1, 2], num_resamples=20) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: iqm([]), "at least one number"),
        (lambda: iqm([1.0, float("nan")]), "must be finite; got nan"),
        (lambda: mean_interval([1, 2], confidence=95), r"confidence must be in \(0, 1\); got 95"),
        (lambda: bootstrap_interval([[1, 2]]), "one axis"),
        (lambda: bootstrap_interval([1, 2], num_resamples=0), "num_resamples must be >= 1; got 0"),
        (lambda: stratified_bootstrap_interval([1, 2]), "num_tasks, num_seeds"),
        (lambda: probability_of_improvement([[1], [2]], [[1]]), "same tasks; got 2 and 1"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
