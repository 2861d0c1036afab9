"""How population-based training changes the values of a member."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlssl.experiment.spec.dimension import LISTS, Dimension
from rlssl.experiment.spec.search_space import random_points

#: Tries until changed values fit together.
_MAX_TRIES = 100


@dataclass(frozen=True)
class Explorer:
    """Changes values within the search space.

    A number is multiplied by one of the factors and stays within its bounds. A value of a list is
    replaced by one of its two neighbors. With ``resample_probability``, the value is drawn again.

    Args:
        space: The searched values.
        resample_probability: In [0, 1].
        factors: Factors of numbers; > 0.
        fits: Whether values fit together; others are not given.

    Example:
        >>> space = [Dimension("training.lr", "loguniform", (1e-4, 1e-2))]
        >>> double = Explorer(space, resample_probability=0.0, factors=[2.0], fits=lambda _: True)
        >>> rng = np.random.default_rng(0)
        >>> double({"training.lr": 1e-3}, rng), double({"training.lr": 8e-3}, rng)
        ({'training.lr': 0.002}, {'training.lr': 0.01})
    """

    space: Sequence[Dimension]
    resample_probability: float
    factors: Sequence[float]
    fits: Callable[[Mapping[str, Any]], bool]

    def __call__(self, values: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """New values; the given ones if no change fits."""
        for _ in range(_MAX_TRIES):
            changed = {one.path: self._change(one, values[one.path], rng) for one in self.space}
            if self.fits(changed):
                return changed
        return dict(values)

    def _change(self, one: Dimension, value: Any, rng: np.random.Generator) -> Any:
        if rng.random() < self.resample_probability:
            return _drawn(one, rng)
        if one.kind in LISTS:
            return _neighbor(one.arguments, value, rng)
        return scaled(one, value, float(rng.choice(self.factors)))


def _drawn(one: Dimension, rng: np.random.Generator) -> Any:
    if one.is_grid:
        return one.arguments[int(rng.integers(len(one.arguments)))]
    return next(random_points([one], int(rng.integers(2**32))))[one.path]


def _neighbor(values: Sequence[Any], value: Any, rng: np.random.Generator) -> Any:
    """The value before or after; at an end of the list, the only neighbor."""
    # 1 == True in Python, but not in a spec.
    at = [json.dumps(each) for each in values].index(json.dumps(value))
    beside = [index for index in (at - 1, at + 1) if 0 <= index < len(values)]
    return values[int(rng.choice(beside))] if beside else value


def scaled(one: Dimension, value: float, factor: float) -> float:
    """A number times a factor, within the bounds, and a multiple of q if the space has a q.

    A whole number moves by one step at least.

    Example:
        >>> scaled(Dimension("a", "randint", (1, 10)), 2, 1.2)
        3
        >>> scaled(Dimension("a", "quniform", (0, 1, 0.25)), 0.5, 1.2)
        0.75
    """
    is_whole = "randint" in one.kind
    step = one.arguments[2] if one.kind.startswith("q") else (1 if is_whole else None)
    moved = value * factor
    if step is not None:
        moved = round(moved / step) * step
        if moved == value and factor != 1:
            moved += step if (factor > 1) == (value >= 0) else -step
    if "randn" not in one.kind:
        low, high = one.bounds
        moved = min(max(moved, low), high)
    return round(moved) if is_whole else float(moved)


def quantiles(
    scores: Mapping[int, float], share: float, sign: float
) -> tuple[list[int], list[int]]:
    """The worst and the best members, as many of each; none of a population of one.

    Args:
        scores: Member -> score.
        share: Share of the members, in (0, 0.5].
        sign: 1 if higher is better, else -1.

    Returns:
        The worst and the best, both in order of their scores.

    Example:
        >>> quantiles({0: 3.0, 1: 1.0, 2: 2.0}, 0.25, sign=1.0)
        ([1], [0])
    """
    ranked = sorted(scores, key=lambda member: (sign * scores[member], member))
    num = min(int(np.ceil(len(ranked) * share)), len(ranked) // 2)
    return ranked[:num], ranked[len(ranked) - num :]
