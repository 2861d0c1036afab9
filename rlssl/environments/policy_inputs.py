"""Checks the observations that a policy is given, and casts them where the cast is safe.

A policy scales integer images itself. So a frame that is scaled already would act without an error,
but wrongly.
"""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import tree

#: Reads one observation: returns it with the dtypes of its space, or raises a ValueError.
Reader = Callable[[Any], Any]


def observation_reader(space: gym.Space) -> Reader:
    """Returns a function that checks one observation of a space and casts it if that is safe.

    An array of the right shape and dtype is returned as it is, after two comparisons. These casts
    are safe: floats to other floats; integers to other integers, if the values fit; integers to
    floats, if the values are within the bounds of the space. An image of floats must not be given
    as uint8 unless its bounds reach 255. Bounds of floats are not checked.

    Args:
        space: The space of one observation without a stack: Box, Discrete, MultiDiscrete,
            MultiBinary, or Dict or Tuple of them.

    Example:
        >>> read = observation_reader(gym.spaces.Box(0, 255, (2,), np.uint8))
        >>> read([7, 255])
        array([  7, 255], dtype=uint8)
        >>> read(np.array([0.5, 1.0]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: the policy reads uint8 in [0, 255]; got float64 in [0.5, 1]. The policy ...
    """
    return _reader(space, "")


def batch_size(observation: Any, space: gym.Space) -> int | None:
    """The number of rows of a batch of observations of a space; None for a single observation.

    The shape of its arrays tells: rows add one axis in front.

    Example:
        >>> space = gym.spaces.Dict({"camera": gym.spaces.Box(0, 1, (2,), np.float32)})
        >>> batch_size({"camera": np.zeros((5, 2))}, space), batch_size({"camera": [0, 0]}, space)
        (5, None)
    """
    if isinstance(space, gym.spaces.Dict) and isinstance(observation, Mapping):
        key = next((key for key in space.spaces if key in observation), None)
        return None if key is None else batch_size(observation[key], space.spaces[key])
    if isinstance(space, gym.spaces.Tuple) and isinstance(observation, tuple | list):
        return batch_size(observation[0], space.spaces[0]) if observation else None
    try:
        shape = np.shape(observation)
    except ValueError:  # rows of different lengths
        return None
    is_batch = space.shape is not None and len(shape) > 0 and shape[1:] == space.shape
    return shape[0] if is_batch else None


def batch_reader(space: gym.Space) -> Reader:
    """Like `observation_reader`, for a batch: [N, ...] in each part of the space.

    Example:
        >>> read = batch_reader(gym.spaces.Box(0, 255, (2,), np.uint8))
        >>> read([[7, 255], [0, 1]])
        array([[  7, 255],
               [  0,   1]], dtype=uint8)
    """
    read = observation_reader(space)

    def read_batch(batch: Any) -> Any:
        is_right = type(batch) is np.ndarray and batch.dtype == space.dtype and len(batch) > 0
        if is_right and isinstance(space, gym.spaces.Box) and batch.shape[1:] == space.shape:
            return batch
        sizes = {np.shape(part)[:1] for part in tree.flatten(_arrays(batch))}
        if len(sizes) != 1 or not all(size and size[0] for size in sizes):
            raise ValueError(
                "a batch must have at least one row, and as many rows in each of its parts; got "
                f"{sorted(sizes)}."
            )
        rows = [
            read(tree.map_structure(lambda part, row=row: part[row], _arrays(batch)))
            for row in range(*sizes.pop())
        ]
        return tree.map_structure(lambda *parts: np.stack(parts), *rows)

    return read_batch


def _arrays(batch: Any) -> Any:
    """The batch with an array for each part: a list is rows, not a structure."""
    if isinstance(batch, Mapping):
        return {key: _arrays(part) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(_arrays, batch))
    return np.asarray(batch)


def _reader(space: gym.Space, name: str) -> Reader:
    if isinstance(space, gym.spaces.Dict):
        return _dict_reader(space, name)
    if isinstance(space, gym.spaces.Tuple):
        return _tuple_reader(space, name)
    if isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary | gym.spaces.MultiDiscrete):
        return _array_reader(space, name)
    if isinstance(space, gym.spaces.Discrete):
        return _discrete_reader(space, name)
    return lambda value: value


def _array_reader(space: gym.Space, name: str) -> Reader:
    shape, dtype = space.shape, space.dtype
    assert shape is not None  # for mypy
    assert dtype is not None

    def read(value: Any) -> np.ndarray:
        if type(value) is np.ndarray and value.shape == shape and value.dtype == dtype:
            return value
        array = np.asarray(value)
        if array.shape != shape:
            raise ValueError(_shape_problem(array, space, name))
        if problem := _dtype_problem(array, space, name):
            raise ValueError(problem)
        return array.astype(dtype)

    return read


def _discrete_reader(space: gym.spaces.Discrete, name: str) -> Reader:
    first, last = int(space.start), int(space.start) + int(space.n) - 1

    def read(value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.shape != ():
            raise ValueError(_shape_problem(array, space, name))
        if array.dtype.kind not in "iu" or not first <= array <= last:
            raise ValueError(
                f"{_the_policy(name)} reads a whole number from {first} to {last}; got {value!r}."
            )
        return array.astype(space.dtype)

    return read


def _dict_reader(space: gym.spaces.Dict, name: str) -> Reader:
    readers = {key: _reader(part, _inside(name, key)) for key, part in space.spaces.items()}

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or value.keys() != readers.keys():
            got = sorted(value) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(
                f"{_the_policy(name)} reads a dict with the keys {sorted(readers)}; got {got}."
            )
        return {key: read_part(value[key]) for key, read_part in readers.items()}

    return read


def _tuple_reader(space: gym.spaces.Tuple, name: str) -> Reader:
    readers = [_reader(part, _inside(name, index)) for index, part in enumerate(space.spaces)]

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple | list) or len(value) != len(readers):
            got = len(value) if isinstance(value, tuple | list) else type(value).__name__
            raise ValueError(f"{_the_policy(name)} reads a tuple of {len(readers)}; got {got}.")
        return tuple(read_part(part) for read_part, part in zip(readers, value, strict=True))

    return read


def _shape_problem(array: np.ndarray, space: gym.Space, name: str) -> str:
    shape = space.shape or ()
    problem = f"{_the_policy(name)} reads one observation of shape {shape}; got {array.shape}."
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        return f"{problem} It acts on one observation at a time: give each row of the batch alone."
    if len(shape) == array.ndim == 3 and array.shape in (
        (*shape[1:], shape[0]),
        (shape[2], *shape[:2]),
    ):
        return f"{problem} Move the axis of the channels with numpy.moveaxis."
    return f"{problem} Give the observation of the environment, without a batch or a stack."


def _dtype_problem(array: np.ndarray, space: gym.Space, name: str) -> str | None:
    """Why a cast to the dtype of the space is not safe; None if it is safe."""
    given, wanted = array.dtype, np.dtype(space.dtype)
    low, high = _bounds(space)
    got = f"{_the_policy(name)} reads {wanted} in [{low:g}, {high:g}]; got {given}"
    if given.kind not in "fiub":
        return f"{got}. Give an array of numbers."
    if array.size == 0 or (given.kind == wanted.kind == "f"):
        return None
    least, most = float(array.min()), float(array.max())
    got = f"{got} in [{least:g}, {most:g}]."
    if given.kind == "f":
        return (
            f"{got} The policy scales integers itself: give the observation of the environment, "
            "not divided or normalized."
        )
    if wanted.kind == "f" and given == np.uint8 and array.ndim == 3 and not 255 <= high < np.inf:
        return f"{got} Scale the image as the environment of the training does."
    # A mask, say, instead of pixels.
    is_flag = given.kind == "b" and wanted.kind != "b" and high > 1
    if is_flag or not low <= least <= most <= high:
        return f"{got} Give the values that the environment of the training gives."
    return None


def _bounds(space: gym.Space) -> tuple[float, float]:
    if isinstance(space, gym.spaces.Box):
        return float(space.low.min()), float(space.high.max())
    if isinstance(space, gym.spaces.MultiDiscrete):
        return float(space.start.min()), float((space.start + space.nvec).max()) - 1
    return 0.0, 1.0


def _the_policy(name: str) -> str:
    return f"observation {name}: the policy" if name else "the policy"


def _inside(name: str, key: Any) -> str:
    return f"{name}[{key!r}]"
