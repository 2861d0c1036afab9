"""A curve in one line of text."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: From low to high; the second one for terminals without Unicode.
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def sparkline(values: Sequence[float], width: int, *, symbols: str = BLOCKS) -> str:
    """Draws values from left to right, between their own minimum and maximum.

    If there are more values than letters, each letter shows the mean of its share of the values.

    Args:
        values: In their order; values that are not finite are left out.
        width: The most letters.
        symbols: Letters from low to high.

    Returns:
        At most ``width`` letters; "" without values.

    Example:
        >>> sparkline([0.0, 1.0, 2.0, 7.0], 10)
        '▁▂▃█'
        >>> sparkline([0.0, 2.0, 4.0, 6.0], 2)  # means of 1 and 5
        '▁█'
        >>> sparkline([3.0, 3.0], 10, symbols=ASCII)
        '__'
    """
    finite = [value for value in values if math.isfinite(value)]
    count = min(len(finite), width)
    edges = [round(number * len(finite) / count) for number in range(count + 1)] if count else []
    means = [
        math.fsum(finite[begin:end]) / (end - begin) for begin, end in itertools.pairwise(edges)
    ]
    if not means:
        return ""
    return bars(means, min(means), max(means), symbols=symbols)


def bars(values: Iterable[float], low: float, high: float, *, symbols: str = BLOCKS) -> str:
    """Draws a letter for each value, on a scale that several curves may share.

    Args:
        values: Between ``low`` and ``high``; NaN leaves its place blank.
        low: The value of the lowest letter.
        high: The value of the highest letter.
        symbols: Letters from low to high.

    Example:
        >>> bars([0.0, math.nan, 7.0], 0.0, 14.0)
        '▁ ▅'
    """
    highest = len(symbols) - 1
    span = 1.0 if are_equal(low, high) else high - low
    return "".join(
        " " if math.isnan(value) else symbols[round((value - low) / span * highest)]
        for value in values
    )


def are_equal(low: float, high: float) -> bool:
    """Whether two ends of a scale differ by rounding only, so that a curve is flat.

    Example:
        >>> are_equal(0.3, 0.1 + 0.2), are_equal(0.3, 0.301)
        (True, False)
    """
    return math.isclose(low, high, rel_tol=1e-12)


def symbols_of(console: "Console") -> str:
    """The letters that a terminal can show."""
    return ASCII if console.options.ascii_only else BLOCKS
