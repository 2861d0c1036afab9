"""A curve in one line of text."""

import itertools
import math
from collections.abc import Sequence

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
    low, span = min(means), max(means) - min(means)
    highest = len(symbols) - 1
    return "".join(symbols[round((mean - low) / span * highest) if span else 0] for mean in means)
