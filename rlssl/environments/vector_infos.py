"""The infos of vector environments: how those of single environments are joined, and read.

gymnasium joins infos in arrays whose dtype and shape come from the first environment that has the
key: 0.75 becomes 0 where another environment gave the integer 0. Here, no environment changes what
another one gave.
"""

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.wrappers.vector import DictInfoToList

#: Keys of an environment's info that say whether it has succeeded; the first one wins.
SUCCESS_KEYS = ("success", "is_success")

#: Which steps of an episode make it a success: its last one, or any (the highest value counts).
Success = Literal["any", "last"]
DEFAULT_SUCCESS: Success = "any"

#: Keys of an environment's info that the vectorized EnvRunner reads.
READ_KEYS = (*SUCCESS_KEYS, "soft_terminated", "learning_reward")

#: What `JoinedInfos` keeps as numbers; everything else is kept as objects.
_NUMBERS = (np.ndarray, np.number, np.bool_, int, float)
_NO_NUMBER = np.array(None, object)

#: gymnasium's method that adds the info of one environment to the infos of all.
_ADD_INFO = "_add_info"

#: Key under which `ListedInfos` keeps the environments' own infos.
_LISTED = "rlssl_infos"


def as_number(value: Any, key: str) -> float:
    """One value of an info as a number.

    Raises:
        ValueError: If the value is not a single number; the message names the key.

    Example:
        >>> as_number(True, "success"), as_number(np.array([0.5]), "success")
        (1.0, 0.5)
        >>> as_number("yes", "success")
        Traceback (most recent call last):
        ValueError: info['success'] must be a number; got 'yes'.
    """
    if isinstance(value, float | int):
        return float(value)
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"info[{key!r}] must be a number; got {value!r}.")
    return float(array.item())


class ReadInfos:
    """Joins only the infos that the vectorized EnvRunner reads, as numbers; ignores other keys.

    Example:
        >>> collect = ReadInfos(num_envs=2)
        >>> infos = collect({}, {"success": 0, "legal_moves": np.zeros(3)}, 0)
        >>> collect(infos, {"success": 0.75, "legal_moves": np.zeros(5)}, 1)["success"]
        array([0.  , 0.75])
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs

    def __call__(self, infos: dict[str, Any], info: Mapping[str, Any], slot: int) -> dict[str, Any]:
        """Adds the info of environment ``slot`` to ``infos``; replaces ``VectorEnv._add_info``.

        Raises:
            ValueError: If the value of a key that is read is not a number.
        """
        for key in READ_KEYS:
            value = info.get(key)
            if value is None:
                continue
            if key not in infos:
                infos[key] = np.zeros(self._num_envs)
                infos[f"_{key}"] = np.zeros(self._num_envs, np.bool_)
            infos[key][slot], infos[f"_{key}"][slot] = as_number(value, key), True
        return infos


class ListedInfos:
    """Keeps a copy of the info of each environment as it is; `InfosToList` gives them back."""

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs

    def __call__(self, infos: dict[str, Any], info: Mapping[str, Any], slot: int) -> dict[str, Any]:
        """Adds the info of environment ``slot`` to ``infos``; replaces ``VectorEnv._add_info``."""
        listed = infos.setdefault(_LISTED, [{} for _ in range(self._num_envs)])
        listed[slot] = copied(info)
        return infos


class JoinedInfos:
    """Joins infos in gymnasium's format, in arrays whose dtype holds the values of everyone.

    For vector environments of users, whose wrappers may read gymnasium's format.

    Example:
        >>> join = JoinedInfos(num_envs=2)
        >>> infos = join({}, {"lives": 3, "winner": None}, 0)
        >>> infos = join(infos, {"lives": 0.5, "winner": 1}, 1)
        >>> infos["lives"], infos["winner"]
        (array([3. , 0.5]), array([None, 1], dtype=object))
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs

    def __call__(self, infos: dict[str, Any], info: Mapping[str, Any], slot: int) -> dict[str, Any]:
        """Adds the info of environment ``slot`` to ``infos``; replaces ``VectorEnv._add_info``."""
        for key, value in info.items():
            if str(key).startswith("_"):  # these keys are for masks
                continue
            infos[key] = self._joined(key, infos.get(key), value, slot)
            mask = infos.setdefault(f"_{key}", np.zeros(self._num_envs, np.bool_))
            mask[slot] = True
        return infos

    def _joined(self, key: str, before: Any, value: Any, slot: int) -> Any:
        if key != "final_obs":
            if isinstance(value, dict) and (before is None or isinstance(before, dict)):
                return self({} if before is None else before, value, slot)
            if isinstance(before, dict):
                before = self._dicts_of(before)
            array = np.asarray(value) if isinstance(value, _NUMBERS) else _NO_NUMBER
            if before is None and array.dtype.kind in "biuf":
                before = np.zeros((self._num_envs, *array.shape), array.dtype)
            if _is_numbers(before) and before.shape[1:] == array.shape and _is_numbers(array):
                joined = before.astype(np.result_type(before, array), copy=False)
                joined[slot] = array
                return joined
        return self._with_object(before, copied(value), slot)

    def _with_object(self, before: Any, value: Any, slot: int) -> np.ndarray:
        """An array of objects with one more object; ``before`` may be an array of numbers."""
        objects = before
        if before is None or before.dtype != object:
            objects = np.full(self._num_envs, None, dtype=object)
            for index, one in enumerate(() if before is None else before):
                objects[index] = one
        objects[slot] = value
        return objects

    def _dicts_of(self, nested: Mapping[str, Any]) -> np.ndarray:
        """A dict of arrays as an array of dicts."""
        dicts = np.full(self._num_envs, None, dtype=object)
        for slot in range(self._num_envs):
            dicts[slot] = {
                key: value[slot]
                for key, value in nested.items()
                if not str(key).startswith("_") and nested[f"_{key}"][slot]
            }
        return dicts


class InfosToList(DictInfoToList):
    """gymnasium's wrapper, which gives a list of infos, for infos of any kind.

    The infos own their arrays. A value that is not one for each environment is given to all.
    """

    def _convert_info_to_list(self, vector_infos: dict[str, Any]) -> list[dict[str, Any]]:
        if _LISTED in vector_infos:
            listed: list[dict[str, Any]] = vector_infos[_LISTED]
            return listed
        listed = [{} for _ in range(self.num_envs)]
        for key, value in vector_infos.items():
            if str(key).startswith("_"):
                continue
            if isinstance(value, dict):
                value = self._convert_info_to_list(value)
            is_each = isinstance(value, np.ndarray | list) and len(value) == self.num_envs
            mask = vector_infos.get(f"_{key}")
            for slot, info in enumerate(listed):
                if mask is None or mask[slot]:
                    info[key] = copied(value[slot] if is_each else value)
        return listed


def join_infos(
    vector: gym.vector.VectorEnv, how: "type[ReadInfos] | type[ListedInfos] | type[JoinedInfos]"
) -> None:
    """Lets a vector environment join infos as this module does, if it joins them as gymnasium does.

    Args:
        vector: The environment, which is changed. A class with an own ``_add_info`` is not.
        how: How infos are joined.
    """
    inner = vector.unwrapped
    if getattr(type(inner), _ADD_INFO) is getattr(gym.vector.VectorEnv, _ADD_INFO):
        # The attribute of an instance hides the method of its class.
        vars(inner)[_ADD_INFO] = how(inner.num_envs)


def vector_info(
    infos: Mapping[str, Any], key: str, num_envs: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads one key of a vector environment's infos.

    Args:
        infos: In gymnasium's format: ``key`` -> [N] and, unless every environment gave the key,
            ``_key`` -> [N], bool. With SAME_STEP autoreset, ``final_info`` holds the infos of the
            steps that ended an episode.
        key: The key to read.
        num_envs: N.

    Returns:
        The values, [N], and which environments gave one, [N], bool; None if no environment did.

    Raises:
        ValueError: If the values are not numbers of the shape [N].

    Example:
        >>> infos = {"lives": np.array([3, 0]), "_lives": np.array([True, False])}
        >>> vector_info(infos, "lives", 2)
        (array([3, 0]), array([ True, False]))
    """
    final = infos.get("final_info")
    if final is None:
        return _given(infos, key, num_envs)
    ended = np.asarray(infos["_final_info"], np.bool_)
    nothing = np.zeros(num_envs), np.zeros(num_envs, np.bool_)
    of_last, of_others = _given(final, key, num_envs), _given(infos, key, num_envs)
    if of_last is None and of_others is None:
        return None
    (last, last_given), (others, others_given) = of_last or nothing, of_others or nothing
    return np.where(ended, last, others), np.where(ended, last_given, others_given)


def _given(
    infos: Mapping[str, Any], key: str, num_envs: int
) -> tuple[np.ndarray, np.ndarray] | None:
    if infos.get(key) is None:
        return None
    given = infos.get(f"_{key}")
    mask = np.ones(num_envs, np.bool_) if given is None else np.asarray(given, np.bool_)
    values = np.asarray(infos[key])
    for name, array in ((key, values), (f"_{key}", mask)):
        if array.shape != (num_envs,):
            raise ValueError(
                f"infos[{name!r}] must have a value for each environment, shape ({num_envs},); got "
                f"shape {array.shape}."
            )
    if values.dtype.kind in "biuf":
        return values, mask
    # Objects: an environment may give a number, another one None.
    mask = mask & np.array([value is not None for value in values], np.bool_)
    numbers = [
        as_number(one, key) if is_given else 0.0 for one, is_given in zip(values, mask, strict=True)
    ]
    return np.array(numbers), mask


def copied(value: Any) -> Any:
    """A copy of a struct of dicts, lists and tuples with copied arrays; other objects are shared.

    Example:
        >>> own = {"board": np.zeros(2)}
        >>> copied(own)["board"] is own["board"]
        False
    """
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(part) for part in value)
    return value


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
