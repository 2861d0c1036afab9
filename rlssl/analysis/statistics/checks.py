"""Checks of arguments, and the types that the statistics share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval, in the unit of the scores."""

    low: float
    high: float


def finite(name: str, values: ArrayLike) -> FloatArray:
    """The values as an array; refuses none, and NaN and infinite ones."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} must have at least one number; got shape {array.shape}.")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise ValueError(f"{name} must be finite; got {bad}. Remove runs without a score first.")
    return array


def vector(name: str, values: ArrayLike) -> FloatArray:
    """The values as an array with one axis."""
    array = finite(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis; got shape {array.shape}.")
    return array


def matrix(name: str, values: ArrayLike) -> FloatArray:
    """The values as [num_tasks, num_seeds]."""
    if isinstance(values, Sequence):
        sizes = {np.size(row) for row in values}
        if len(sizes) > 1:
            listed = ", ".join(map(str, sorted(sizes)))
            raise ValueError(
                f"{name} must have the same number of seeds for every task; got {listed}. Run the "
                "missing seeds, or give every task the same seeds."
            )
    array = finite(name, values)
    if array.ndim != 2:
        raise ValueError(f"{name} must be [num_tasks, num_seeds]; got shape {array.shape}.")
    return array


def check_resampling(confidence: float, num_resamples: int) -> None:
    """Refuses options of a bootstrap that are out of range."""
    check_confidence(confidence)
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be >= 1; got {num_resamples}.")


def check_confidence(confidence: float) -> None:
    """Refuses a confidence outside (0, 1), such as 95."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1); got {confidence}.")
