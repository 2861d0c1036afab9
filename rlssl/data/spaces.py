"""Spaces as readable JSON."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlssl.image_spaces import ImageSpace


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """A space as plain JSON; bounds that are the same everywhere are one number.

    Raises:
        ValueError: If it is not a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of
            them.

    Example:
        >>> space_to_json(spaces.Box(0, 255, (84, 84, 1), "uint8"))
        {'type': 'Box', 'shape': [84, 84, 1], 'dtype': 'uint8', 'low': 0, 'high': 255}
        >>> space_to_json(spaces.Box(-1, np.inf, (2,)))["high"]
        'inf'
    """
    match space:
        case spaces.Dict():
            parts = {_text(key): space_to_json(part) for key, part in space.items()}
            return {"type": "Dict", "spaces": parts}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [space_to_json(part) for part in space]}
        case spaces.Box():
            low, high = _numbers(space.low), _numbers(space.high)
            layout = {"layout": space.layout} if isinstance(space, ImageSpace) else {}
            return {"type": "Box", **_shape_and_dtype(space), "low": low, "high": high, **layout}
        case spaces.Discrete():
            numbers = {"n": int(space.n), "start": int(space.start)}
            return {"type": "Discrete", **numbers, "dtype": np.dtype(space.dtype).name}
        case spaces.MultiDiscrete():
            choices = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
            return {"type": "MultiDiscrete", **choices, "dtype": np.dtype(space.dtype).name}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "shape": list(space.shape)}
    raise ValueError(
        f"{space} cannot be recorded: use Box, Discrete, MultiDiscrete, MultiBinary, and Dict or "
        "Tuple of them."
    )


def space_from_json(saved: Mapping[str, Any]) -> gym.Space:
    """The space that `space_to_json` described.

    Raises:
        ValueError: If it is no such description; names the part.

    Example:
        >>> space_from_json({"type": "Discrete", "n": 3})
        Discrete(3)
    """
    kind = saved.get("type") if isinstance(saved, Mapping) else None
    if kind not in _READERS:
        raise ValueError(f"no description of a space: {saved!r}; its type must be a space's name.")
    try:
        return _READERS[kind](saved)
    except (KeyError, TypeError, AssertionError, OverflowError) as error:
        raise ValueError(
            f"a wrong description of a {kind}: {type(error).__name__}: {error}."
        ) from error


def _box(saved: Mapping[str, Any]) -> gym.Space:
    dtype = np.dtype(saved["dtype"])
    shape = tuple(saved["shape"])
    low, high = (
        np.array(np.broadcast_to(np.array(_numbers_read(saved[side]), dtype), shape))
        for side in ("low", "high")
    )
    if layout := saved.get("layout"):
        return ImageSpace(low, high, layout)
    return spaces.Box(low, high, dtype=dtype.type)


def _discrete(saved: Mapping[str, Any]) -> gym.Space:
    dtype = np.dtype(saved.get("dtype", "int64"))
    return spaces.Discrete(saved["n"], start=saved.get("start", 0), dtype=dtype.type)


def _multi_discrete(saved: Mapping[str, Any]) -> gym.Space:
    dtype = np.dtype(saved.get("dtype", "int64"))
    start = saved.get("start")
    return spaces.MultiDiscrete(
        np.array(saved["nvec"], dtype),
        dtype=dtype.type,
        start=None if start is None else np.array(start, dtype),
    )


def _multi_binary(saved: Mapping[str, Any]) -> gym.Space:
    shape = saved["shape"]
    return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)


def _dict(saved: Mapping[str, Any]) -> gym.Space:
    # An OrderedDict, because gymnasium sorts the keys of a dict.
    parts = [(key, space_from_json(part)) for key, part in saved["spaces"].items()]
    return spaces.Dict(OrderedDict(parts))


def _tuple(saved: Mapping[str, Any]) -> gym.Space:
    return spaces.Tuple([space_from_json(part) for part in saved["spaces"]])


_READERS: dict[str, Callable[[Mapping[str, Any]], gym.Space]] = {
    "Box": _box,
    "Dict": _dict,
    "Discrete": _discrete,
    "MultiBinary": _multi_binary,
    "MultiDiscrete": _multi_discrete,
    "Tuple": _tuple,
}


def _shape_and_dtype(space: spaces.Box) -> dict[str, Any]:
    return {"shape": list(space.shape), "dtype": np.dtype(space.dtype).name}


def _numbers(bounds: np.ndarray) -> Any:
    """Bounds as nested lists, or as one number if all are the same; infinities as text."""
    if bounds.size and (bounds == bounds.reshape(-1)[0]).all():
        return _number(bounds.reshape(-1)[0].item())
    return _each(bounds.tolist(), _number)


def _numbers_read(saved: Any) -> Any:
    return _each(saved, float) if _has_text(saved) else saved


def _has_text(saved: Any) -> bool:
    return any(map(_has_text, saved)) if isinstance(saved, list) else isinstance(saved, str)


def _each(values: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(values, list):
        return [_each(value, function) for value in values]
    return function(values)


def _number(value: Any) -> Any:
    return value if isinstance(value, int) or np.isfinite(value) else str(value)


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"the keys of a Dict must be text; got {key!r}.")
    return key
