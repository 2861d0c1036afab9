"""Loads episodes into a replay buffer."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.data.description import Description
from rlssl.data.episode import Episode
from rlssl.data.reader import EpisodeDataset
from rlssl.errors import SpecError


class Replay(Protocol):
    """What `fill` needs of a `rlssl.replay.ReplayBuffer`."""

    capacity: int

    @property
    def num_rows(self) -> int:
        """Number of rows in use."""

    def add(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Adds chunks of episodes."""


def fill(
    replay: Replay,
    episodes: EpisodeDataset | Iterable[Episode],
    to_module_actions: Callable[[Any], Any],
    *,
    prefix: str = "data",
    name: str | None = None,
    numbers: Iterable[int] | None = None,
) -> int:
    """Adds episodes to a replay buffer, as if a policy had just played them.

    The buffer converts observations to the dtypes of its spaces and refuses other shapes.

    Args:
        replay: A buffer with room for all rows: T + 1 for each episode.
        episodes: A data set, or episodes.
        to_module_actions: From the environment's actions to the policy's; see
            `rlssl.networks.action_encoding.to_module_actions`.
        prefix: Episode n gets the id ``PREFIX.n``. Different data sets in one buffer need different
            ones.
        name: Of the data set, in messages; None: its path.
        numbers: In messages, the number of each episode in its data set; None: 0, 1, ...

    Returns:
        The number of steps.

    Raises:
        SpecError: If the buffer is too small, an episode does not fit it, or an action is outside
            the action space. The message names the episode.
        DamagedShardError: If a shard is damaged.

    Example:
        It needs a data set, as ``rlssl collect`` makes one.

        >>> from rlssl.networks.action_encoding import to_module_actions  # doctest: +SKIP
        >>> from rlssl.replay import ReplayBuffer  # doctest: +SKIP
        >>> data = EpisodeDataset("pendulum-data")  # doctest: +SKIP
        >>> actions = data.description.action_space  # doctest: +SKIP
        >>> frames = data.description.observation_space  # doctest: +SKIP
        >>> buffer = ReplayBuffer(data.num_rows, frames, actions)  # doctest: +SKIP
        >>> fill(buffer, data, to_module_actions(actions))  # doctest: +SKIP
        20000
    """
    if isinstance(episodes, EpisodeDataset):
        name = name or episodes.path
        _require_room(replay, episodes.num_rows, name)
    name, steps = name or "the episodes", 0
    known = itertools.count() if numbers is None else numbers
    for index, (number, episode) in enumerate(zip(known, episodes, strict=False)):
        where = f"episode {number} of {name}"
        _require_room(replay, len(episode) + 1, name)
        try:
            if episode.actions is None:
                raise ValueError("it has no actions")
            actions = to_module_actions(episode.actions)
            ready = replace(episode, actions=actions)
            replay.add([ready.to_single_agent_episode(f"{prefix}.{index}")])
        except ValueError as error:
            raise SpecError(f"{where} cannot be used: {str(error).rstrip('.')}.") from error
        steps += len(episode)
    return steps


def _require_room(replay: Replay, num_rows: int, name: str) -> None:
    if replay.num_rows + num_rows > replay.capacity:
        raise SpecError(
            f"{name}: the replay buffer holds {replay.capacity} rows, and {replay.num_rows} + "
            f"{num_rows} are needed (T + 1 for each episode); raise its capacity."
        )


def check_spaces(
    description: Description, observation_space: gym.Space, action_space: gym.Space, name: str
) -> None:
    """Refuses a data set whose spaces are not those of a policy or an environment.

    Dtypes may differ within a kind: float64 is converted to float32.

    Args:
        description: Of the data set.
        observation_space: The space of one frame.
        action_space: The action space.
        name: The data set, for messages.

    Raises:
        SpecError: Names the part that differs, and both values.

    Example:
        >>> recorded = Description(spaces.Box(0, 255, (64, 64, 3), "uint8"), spaces.Discrete(3))
        >>> here = spaces.Box(0, 255, (84, 84, 3), "uint8")
        >>> check_spaces(recorded, here, spaces.Discrete(3), "demos")
        Traceback (most recent call last):
        rlssl.errors.SpecError: demos does not fit: its observations have shape (64, 64, 3), and \
(84, 84, 3) is wanted. Record it with the same environment and options.
    """
    pairs = {
        "observations": (description.observation_space, observation_space),
        "actions": (description.action_space, action_space),
    }
    for what, (recorded, wanted) in pairs.items():
        difference = "are unknown" if recorded is None else space_difference(recorded, wanted)
        if difference:
            raise SpecError(
                f"{name} does not fit: its {what} {difference}. Record it with the same "
                "environment and options."
            )


def space_difference(recorded: gym.Space, wanted: gym.Space) -> str:
    """The first difference of two spaces in words; "" if data of one can be used as the other's.

    Example:
        >>> space_difference(spaces.Box(-1, 1, (2,)), spaces.Box(-2, 2, (2,)))
        'have bounds [-1, 1], and [-2, 2] is wanted'
        >>> space_difference(spaces.Dict(a=spaces.Discrete(2)), spaces.Dict(a=spaces.Discrete(3)))
        "['a'] are Discrete(2), and Discrete(3) is wanted"
        >>> space_difference(spaces.Box(-1, 1, (2,), np.float64), spaces.Box(-1, 1, (2,)))
        ''
    """
    match recorded, wanted:
        case (spaces.Dict(), spaces.Dict()) | (spaces.Tuple(), spaces.Tuple()):
            parts, others = _parts(recorded), _parts(wanted)
            if set(parts) != set(others):
                return f"have the parts {list(parts)}, and {list(others)} are wanted"
            for key, part in parts.items():
                if difference := space_difference(part, others[key]):
                    return f"[{key!r}]{'' if difference[0] == '[' else ' '}{difference}"
            return ""
        case spaces.Box(), spaces.Box():
            return _box_difference(recorded, wanted)
    return "" if recorded == wanted else f"are {recorded}, and {wanted} is wanted"


def _parts(space: Any) -> dict[Any, gym.Space]:
    return dict(space.spaces if isinstance(space, spaces.Dict) else enumerate(space.spaces))


def _box_difference(recorded: spaces.Box, wanted: spaces.Box) -> str:
    if recorded.shape != wanted.shape:
        return f"have shape {recorded.shape}, and {wanted.shape} is wanted"
    here, there = np.dtype(recorded.dtype), np.dtype(wanted.dtype)
    if not np.can_cast(here, there, "same_kind"):
        return f"are {here}, and {there} is wanted"
    same = all(
        np.allclose(getattr(recorded, side), getattr(wanted, side)) for side in ("low", "high")
    )
    return "" if same else f"have bounds {_range(recorded)}, and {_range(wanted)} is wanted"


def _range(space: spaces.Box) -> str:
    return f"[{space.low.min():g}, {space.high.max():g}]"
