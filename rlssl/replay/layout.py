"""How members of a space lie in arrays: their leaves, shapes and dtypes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium import spaces


@dataclass(frozen=True)
class Leaf:
    """One array of a row, without the axis of the rows."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Layout:
    """The leaves of a space, and the way from nested data to lists of leaves and back."""

    def __init__(self, space: gym.Space, name: str) -> None:
        """Reads a space.

        Args:
            space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.
            name: Of the argument, for messages: ``observation_space``.

        Raises:
            ValueError: If a leaf is another space, or there is none.
        """
        self._name = name
        self._struct = _leaves_of(space, name)
        self.leaves: list[Leaf] = tree.flatten(self._struct)
        if not self.leaves:
            raise ValueError(f"{name} is {space}: there is nothing to store.")

    def flatten(self, data: Any, what: str) -> list[np.ndarray]:
        """Returns the leaves of ``data``, arrays [N, ...], after a check of shapes and dtypes.

        Args:
            data: Struct of [N, ...] as the space is nested.
            what: For messages: ``observations of episode 3``.

        Raises:
            ValueError: If the nesting, a shape or a dtype is not the space's.
        """
        arrays = [data] if isinstance(self._struct, Leaf) else self._flattened(data, what)
        for array, leaf in zip(arrays, self.leaves, strict=True):
            self._check(array, leaf, what)
        return arrays

    def unflatten(self, arrays: Sequence[Any]) -> Any:
        """Nests one item a leaf as the space is nested; the inverse of `flatten`."""
        if isinstance(self._struct, Leaf):
            return arrays[0]
        return tree.unflatten_as(self._struct, arrays)

    def _flattened(self, data: Any, what: str) -> list[Any]:
        try:
            # assert_same_structure would not look at the keys.
            return tree.flatten_up_to(self._struct, data, check_types=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what} are not nested as {self._name} is: {error}") from error

    def _check(self, array: Any, leaf: Leaf, what: str) -> None:
        if not isinstance(array, np.ndarray):
            raise ValueError(
                f"{what} must be numpy arrays; got {type(array).__name__}. Call the episode's "
                "to_numpy() first."
            )
        if array.shape[1:] != leaf.shape:
            raise ValueError(
                f"{what} have shape {array.shape[1:]} a step; {self._name} says {leaf.shape}."
            )
        if array.dtype != leaf.dtype and not np.can_cast(array.dtype, leaf.dtype, "same_kind"):
            raise ValueError(f"{what} are {array.dtype}; {self._name} says {leaf.dtype}.")


def _leaves_of(space: gym.Space, name: str) -> Any:
    """A struct of `Leaf`, nested as ``space``."""
    match space:
        case spaces.Dict():
            return {key: _leaves_of(part, name) for key, part in space.items()}
        case spaces.Tuple():
            return tuple(_leaves_of(part, name) for part in space)
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return Leaf(space.shape or (), np.dtype(space.dtype))
    raise ValueError(
        f"{name} holds {space}; a replay takes Box, Discrete, MultiDiscrete, MultiBinary, and "
        "Dict or Tuple of them. Wrap the environment so that it gives arrays."
    )
