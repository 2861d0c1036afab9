"""Staleness of gradients: the age of the parameters that they were computed with."""

import math
from collections import Counter
from typing import Any

#: Lower ends of the histogram's bars; the last bar has no upper end.
BARS = (0, 1, 2, 3, 5, 9, 17, 33)


class StalenessLog:
    """Decides whether a gradient is too old, and keeps the histogram.

    Staleness is the number of updates between a worker's pull of the parameters and the
    application of its gradient.

    Args:
        limit: Largest staleness of a gradient that is applied; None: no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        #: Gradients that were too old, over the whole run.
        self.num_dropped = 0
        self._seen: Counter[int] = Counter()

    def admits(self, *, pulled: int, now: int) -> bool:
        """Counts a gradient, and returns whether it may be applied.

        Args:
            pulled: Version of the parameters that the gradient was computed with.
            now: Version of the parameters that the gradient would change.
        """
        staleness = now - pulled
        self._seen[staleness] += 1
        if self.limit is not None and staleness > self.limit:
            self.num_dropped += 1
            return False
        return True

    def drain(self) -> dict[str, Any]:
        """Mean, largest value and histogram of all gradients since the last call.

        Returns:
            ``mean`` and ``max``, updates (nan without gradients); ``histogram``: bar ("3-4",
            "33+") -> number of gradients, including dropped ones.
        """
        seen, self._seen = self._seen, Counter()
        count = seen.total()
        bars = dict.fromkeys(map(_name, range(len(BARS))), 0)
        for staleness, times in seen.items():
            bars[_name(sum(staleness >= low for low in BARS) - 1)] += times
        mean = sum(staleness * times for staleness, times in seen.items()) / max(1, count)
        return {
            "mean": mean if count else math.nan,
            "max": max(seen, default=math.nan),
            "histogram": bars,
        }


def _name(bar: int) -> str:
    low = BARS[bar]
    if bar == len(BARS) - 1:
        return f"{low}+"
    high = BARS[bar + 1] - 1
    return str(low) if low == high else f"{low}-{high}"
