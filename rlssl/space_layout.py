"""Array layout of the elements of a space: leaves, shapes and dtypes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium import spaces


@dataclass(frozen=True)
class Leaf:
    """Shape and dtype of one array of a row, without the axis of the rows."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Layout:
    """The leaves of a space; converts nested data to lists of leaves and back."""

    def __init__(self, space: gym.Space, name: str) -> None:
        """Reads a space.

        Args:
            space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.
            name: Name of the argument in messages, for example ``observation_space``.

        Raises:
            ValueError: If a leaf is another kind of space, or the space has no leaf.
        """
        self._name = name
        self._struct = _leaves_of(space, name)
        self.leaves: list[Leaf] = tree.flatten(self._struct)
        if not self.leaves:
            raise ValueError(f"{name} is {space}: there is nothing to store. Add a space to it.")

    @property
    def paths(self) -> list[tuple[Any, ...]]:
        """The keys that lead to each leaf, in the order of ``leaves``; () without nesting."""
        return [path for path, _ in tree.flatten_with_path(self._struct)]

    def flatten(self, data: Any, what: str) -> list[np.ndarray]:
        """Returns the leaves of ``data``, arrays [N, ...], after checking shapes and dtypes.

        Args:
            data: Struct of [N, ...], nested like the space.
            what: Name of the data in messages, for example ``observations of episode 3``.

        Raises:
            ValueError: If the nesting, a shape or a dtype differs from the space's.
        """
        arrays = [data] if isinstance(self._struct, Leaf) else self._flattened(data, what)
        for array, leaf in zip(arrays, self.leaves, strict=True):
            self._check(array, leaf, what)
        return arrays

    def unflatten(self, arrays: Sequence[Any]) -> Any:
        """Nests a list with one item per leaf like the space; the inverse of `flatten`."""
        if isinstance(self._struct, Leaf):
            return arrays[0]
        return tree.unflatten_as(self._struct, arrays)

    def _flattened(self, data: Any, what: str) -> list[Any]:
        try:
            # assert_same_structure would not check the keys.
            return tree.flatten_up_to(self._struct, data, check_types=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what} are not nested like {self._name}: {error}") from error

    def _check(self, array: Any, leaf: Leaf, what: str) -> None:
        if not isinstance(array, np.ndarray):
            raise ValueError(
                f"{what} must be numpy arrays; got {type(array).__name__}. Call the episode's "
                "to_numpy() first."
            )
        if array.shape[1:] != leaf.shape:
            raise ValueError(
                f"{what} have shape {array.shape[1:]} per step; {self._name} says {leaf.shape}."
            )
        if array.dtype != leaf.dtype and not np.can_cast(array.dtype, leaf.dtype, "same_kind"):
            raise ValueError(f"{what} are {array.dtype}; {self._name} says {leaf.dtype}.")


def _leaves_of(space: gym.Space, name: str) -> Any:
    """A struct of `Leaf`, nested like ``space``."""
    match space:
        case spaces.Dict():
            return {key: _leaves_of(part, name) for key, part in space.items()}
        case spaces.Tuple():
            return tuple(_leaves_of(part, name) for part in space)
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return Leaf(space.shape or (), np.dtype(space.dtype))
    raise ValueError(
        f"{name} holds {space}; rlssl stores Box, Discrete, MultiDiscrete, MultiBinary, and "
        "Dict or Tuple of them. Wrap the environment so that it gives arrays."
    )


def leaves_as_json(leaves: Sequence[Leaf]) -> list[Any]:
    """[shape, dtype] of each leaf, in plain JSON."""
    return [[list(leaf.shape), leaf.dtype.str] for leaf in leaves]
