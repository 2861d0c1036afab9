"""A curve in a line of text."""

import math

from rlssl.analysis.sparkline import ASCII, sparkline


def test_values_that_are_not_finite_are_left_out() -> None:
    assert sparkline([math.nan, 0.0, math.inf, 7.0], 5) == "▁█"
    assert sparkline([math.nan], 5) == "" == sparkline([], 5)


def test_every_value_is_in_one_letter() -> None:
    # 5 values in 3 letters: edges at 0, 5/3, 10/3, 5 -> 0, 2, 3, 5; means 0.5, 2 and 3.5.
    # On 8 letters: (2 - 0.5) / 3 * 7 = 3.5, which rounds to the even 4.
    assert sparkline([0.0, 1.0, 2.0, 3.0, 4.0], 3) == "▁▅█"


def test_a_curve_that_falls_ends_low_also_without_unicode() -> None:
    assert sparkline([4.0, 2.0, 0.0], 3, symbols=ASCII) == "@+_"


def test_values_that_differ_by_rounding_only_are_a_flat_line() -> None:
    assert sparkline([0.1 + 0.2, 0.3, 0.1 + 0.2], 10) == "▁▁▁"
    assert sparkline([1e-9, 2e-9], 10) == "▁█"
