"""Intervals of differences equal hand values and scipy; cautions say when not to trust them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind

from rlssl.analysis.statistics import (
    cautions_of,
    difference,
    rank_interval,
    share_difference_interval,
    welch_interval,
)


def test_welch_interval_equals_scipys() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(size=4), generator.normal(1.0, 3.0, size=7)
    expected = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.9)
    assert welch_interval(ours, theirs, confidence=0.9) == pytest.approx(tuple(expected))


def test_welch_interval_survives_huge_scores() -> None:
    low, high = welch_interval([1e100, 2e100, 3e100], [0, 0, 0])
    assert np.isfinite([low, high]).all()


def test_interval_of_a_difference_of_shares_by_hand() -> None:
    # Wilson for 0 of 5 and 5 of 5: [0, 0.434482], [0.565518, 1]; the far ends lie
    # sqrt(0.434482^2 + 0.434482^2) = 0.614450 from the difference 1, the near one is 1 itself.
    assert share_difference_interval([1] * 5, [0] * 5) == pytest.approx(
        (1 - 0.614450, 1.0), abs=1e-5
    )


def test_rank_interval_solves_its_equation() -> None:
    # Pairs: (2, 1), (4, 1), (4, 3) are wins, (2, 3) is none: 3 of 4. With n = m = 2 the variance is
    # p (1 - p) / 4 * (1 + (1 - p) / (2 - p) + p / (1 + p)).
    for end in rank_interval([2, 4], [1, 3]):
        variance = end * (1 - end) / 4 * (1 + (1 - end) / (2 - end) + end / (1 + end))
        assert abs(end - 0.75) == pytest.approx(norm.ppf(0.975) * np.sqrt(variance), rel=1e-6)


def test_rank_interval_has_a_width_if_every_run_wins() -> None:
    low, high = rank_interval([4, 5, 6, 7, 8], [1, 2, 3, 0, -1])
    assert (high, 0.6 < low < 0.75) == (1.0, True)
    assert rank_interval([1, 2, 3, 0, -1], [4, 5, 6, 7, 8]) == pytest.approx((0.0, 1 - low))


def test_the_interval_fits_the_scores() -> None:
    skewed = [0.0] * 11 + [100.0]
    plain = list(np.linspace(0, 1, 12))
    assert difference([1, 2, 3], [2, 3, 4]).method == "Welch t"
    assert difference([1, 1, 0], [0, 0, 1], are_shares=True).method == "Newcombe, for shares"
    assert difference(skewed, plain).method.startswith("percentile bootstrap, because")
    assert difference(skewed[-4:], plain).method == "Welch t"  # too few seeds for a bootstrap
    # Of 10,000 resamples, 0.001 / 2 are 5 beyond a percentile: it is not known.
    assert difference(skewed, plain, confidence=0.999).interval is None


@pytest.mark.parametrize(
    ("ours", "theirs", "codes"),
    [
        ([], [1, 2, 3], ["no_seeds", "few_seeds"]),
        ([5], [1, 2, 3], ["one_seed", "few_seeds"]),
        ([5, 6], [1, 2, 3], ["two_seeds", "few_seeds"]),
        ([2, 2, 2], [1, 1, 1], ["few_seeds", "no_spread"] * 2),
    ],
)
def test_there_is_no_interval_without_seeds_or_spread(
    ours: list[float], theirs: list[float], codes: list[str]
) -> None:
    found = difference(ours, theirs, names=("new", "old"))
    assert found.interval is None
    assert found.method == ""
    assert [one.code for one in found.cautions] == codes
    assert found.cautions[0].words.startswith("new: ")
    assert found.value == pytest.approx(
        np.mean(ours) - np.mean(theirs) if ours else np.nan, nan_ok=True
    )


def test_one_side_without_spread_still_has_an_interval() -> None:
    found = difference([2, 2, 2, 2, 2], [1, 2, 3, 4, 5])
    assert found.interval is not None
    assert [one.code for one in found.cautions] == ["no_spread"]


def test_rounding_is_no_spread() -> None:
    scores = [0.1 + 0.2, 0.3, 0.3]
    assert "no_spread" in [one.code for one in cautions_of(scores)]


def test_enough_normal_scores_need_no_caution() -> None:
    assert cautions_of([1.0, 2.0, 3.0, 4.0, 5.0]) == []
    assert [one.code for one in cautions_of([1.0, 2.0, 3.0, 4.0, 5.0], "bootstrap")] == [
        "narrow_bootstrap"
    ]
    assert [one.code for one in cautions_of([0.0, 0.0, 0.0, 0.0, 9.0])] == ["skewed"]
    assert cautions_of([1.0] * 5, "Wilson") == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: welch_interval([1], [1, 2]), "at least 2 seeds; got 1 and 2"),
        (lambda: welch_interval([1, 1], [2, 2]), "different scores"),
        (lambda: share_difference_interval([2.0], [1.0]), r"shares in \[0, 1\]; got 2"),
        (lambda: difference([float("nan")], [1, 2]), "scores of A must be finite"),
        (lambda: rank_interval([], [1]), "at least one number"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
