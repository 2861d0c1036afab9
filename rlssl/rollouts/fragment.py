"""The arrays of one fragment: filled a vector step at a time, cut into episode chunks at last."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

_REWARD_SPACE = gym.spaces.Box(-np.inf, np.inf, shape=(), dtype=np.float32)

#: Rows allocated at first; doubled when a fragment is longer.
_INITIAL_ROWS = 64


class Rows:
    """A growing [rows, N, ...] array, or a nested struct of them."""

    def __init__(self, like: Any) -> None:
        """Allocates.

        Args:
            like: One row: arrays [N, ...], nested or not; fixes shapes and dtypes.

        Raises:
            TypeError: If a leaf is no array of numbers.
        """
        self._struct = tree.map_structure(lambda _: None, like)
        self._leaves = [self._allocate(leaf) for leaf in tree.flatten(like)]
        self.size = 0

    @staticmethod
    def _allocate(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, np.ndarray) or leaf.dtype == object or leaf.ndim < 1:
            raise TypeError(
                f"vector environments and modules must give arrays of numbers, [num_envs, ...]; "
                f"got {type(leaf).__name__}: {leaf!r}. Observations such as text need a wrapper."
            )
        return np.empty((_INITIAL_ROWS, *leaf.shape), leaf.dtype)

    def append(self, row: Any) -> None:
        """Copies one row, a struct of [N, ...], behind the last."""
        if self.size == len(self._leaves[0]):
            self._leaves = [np.concatenate([leaf, np.empty_like(leaf)]) for leaf in self._leaves]
        if isinstance(row, np.ndarray):
            self._leaves[0][self.size] = row
        else:
            for leaf, values in zip(self._leaves, tree.flatten(row), strict=True):
                leaf[self.size] = values
        self.size += 1

    def last(self) -> Any:
        """Returns the newest row, a struct of [N, ...]: a view, valid until the next change."""
        if self._struct is None:
            return self._leaves[0][self.size - 1]
        return self._unflatten([leaf[self.size - 1] for leaf in self._leaves])

    def by_environment(self) -> "Columns":
        """Copies all rows, those of one environment behind each other."""
        # Not ascontiguousarray: of a single environment that would be a view.
        swapped = [leaf[: self.size].swapaxes(0, 1).copy(order="C") for leaf in self._leaves]
        return Columns(self._struct, swapped)

    def keep_last(self, count: int) -> None:
        """Drops all rows but the last ``count``."""
        for leaf in self._leaves:
            leaf[:count] = leaf[self.size - count : self.size].copy()
        self.size = count

    def _unflatten(self, leaves: list[np.ndarray]) -> Any:
        return tree.unflatten_as(self._struct, leaves)


class Columns:
    """A copy of `Rows` as [N, rows, ...]: what one environment did lies in one piece."""

    def __init__(self, struct: Any, leaves: list[np.ndarray]) -> None:
        self._struct, self._leaves = struct, leaves

    def part(self, start: int, stop: int, slot: int) -> Any:
        """Rows ``start`` to ``stop`` of one environment: a struct of [stop - start, ...] views."""
        if self._struct is None:
            return self._leaves[0][slot, start:stop]
        return tree.unflatten_as(self._struct, [leaf[slot, start:stop] for leaf in self._leaves])


@dataclass(frozen=True)
class Chunk:
    """Where a chunk of a learning episode lies in the fragment's arrays."""

    slot: int
    episode_id: str
    # Row of the episode's first observation; negative where it was dropped fragments ago.
    begin: int
    # Step rows start to stop belong to the chunk; observations go to stop inclusively.
    start: int
    stop: int
    terminated: bool = False
    truncated: bool = False


class Fragment:
    """What N environments did since the last cut, with the rows before it that serve as lookback.

    Row t holds the observations before step t and what step t gave; one more row of observations
    follows. The step that resets an environment (NEXT_STEP autoreset) fills a row like any other,
    but no episode covers it.
    """

    def __init__(
        self,
        observations: Any,
        *,
        observation_space: gym.Space,
        action_space: gym.Space,
        lookback: int = 1,
        frames: int = 1,
    ) -> None:
        """Starts a new episode in every environment.

        Args:
            observations: Struct of [N, ...], the first ones.
            observation_space: Of one environment and one frame.
            action_space: Of one environment.
            lookback: Steps before a chunk that it carries along, where its episode has them.
            frames: Frames of a stacked observation. A chunk has at least ``frames - 1``
                observations of lookback; at its episode's start they repeat the first.
        """
        self._observation_space, self._action_space = observation_space, action_space
        self._lookback, self._frames = max(lookback, frames - 1), frames
        self._observations = Rows(observations)
        self._observations.append(observations)
        self._actions: Rows | None = None
        self._rewards: Rows | None = None
        self._outputs: dict[str, Rows] = {}
        self._num_envs = len(tree.flatten(observations)[0])
        self._closed: list[Chunk] = []
        # Step rows now, and how many of them precede the fragment.
        self._row = self._first = 0
        # Steps since each learning episode began; 0 also while waiting for a reset.
        self._steps = np.zeros(self._num_envs, np.int64)
        # No "_": RLlib's Learner connectors mark the ids that they have made unique with one.
        self._id_prefix, self._num_ids = uuid.uuid4().hex, 0
        self._ids = [self._new_id() for _ in range(self._num_envs)]

    def latest_observations(self) -> Any:
        """Returns the observations to act on, a struct of [N, ...]: a view, read it at once."""
        return self._observations.last()

    def append(
        self,
        actions: Any,
        rewards: np.ndarray,
        outputs: Mapping[str, Any],
        observations: Any,
        stepped: np.ndarray,
    ) -> None:
        """Adds one vector step.

        Args:
            actions: Struct of [N, ...], as the policy gave them.
            rewards: [N], to learn from.
            outputs: Name -> struct of [N, ...], what else the module gave.
            observations: Struct of [N, ...], those after the step.
            stepped: [N], bool; False where the step was a reset.
        """
        if self._actions is None or self._rewards is None:
            self._actions, self._rewards = Rows(actions), Rows(rewards)
        # Outputs keep no lookback, since exploring and acting greedily may give different ones.
        if self._row == self._first:
            self._outputs = {name: Rows(values) for name, values in outputs.items()}
        self._actions.append(actions)
        self._rewards.append(rewards)
        for name, rows in self._outputs.items():
            rows.append(outputs[name])
        self._observations.append(observations)
        self._steps += stepped
        self._row += 1

    def close(self, slot: int, *, terminated: bool, truncated: bool) -> None:
        """Ends the learning episode of environment ``slot`` at the step added last."""
        self._closed.append(self._chunk(slot, terminated, truncated))
        self._steps[slot] = 0
        self._ids[slot] = self._new_id()

    def abandon(self, slots: Iterable[int] | None = None) -> tuple[int, int]:
        """Drops what unfinished episodes did in this fragment; new ones begin with the next row.

        Args:
            slots: Environments whose episodes are dropped; None: all of them.

        Returns:
            Number of episodes dropped, and of their steps in this fragment.
        """
        episodes = steps = 0
        for slot in range(self._num_envs) if slots is None else slots:
            episodes += int(self._steps[slot] > 0)
            steps += int(min(self._steps[slot], self._row - self._first))
            self._steps[slot] = 0
            self._ids[slot] = self._new_id()
        return episodes, steps

    def cut(self, *, with_unfinished: bool) -> list[SingleAgentEpisode]:
        """Ends the fragment; unfinished episodes continue in the next, under the same ids.

        Args:
            with_unfinished: Whether to return their chunks too.

        Returns:
            Numpy-backed chunks, none of them empty: the closed ones in the order of closing, then
            the unfinished ones by environment. They own their arrays.
        """
        chunks, self._closed = self._closed, []
        if with_unfinished:
            unfinished = (self._chunk(slot) for slot in range(self._num_envs))
            chunks += [chunk for chunk in unfinished if chunk.stop > chunk.start]
        episodes = self._episodes(chunks) if chunks else []
        self._drop_old_rows()
        return episodes

    def _chunk(self, slot: int, terminated: bool = False, truncated: bool = False) -> Chunk:
        begin = self._row - int(self._steps[slot])
        start = max(begin, self._first)
        return Chunk(slot, self._ids[slot], begin, start, self._row, terminated, truncated)

    def _episodes(self, chunks: list[Chunk]) -> list[SingleAgentEpisode]:
        assert self._actions is not None and self._rewards is not None  # chunks have steps
        observations, actions, rewards = (
            rows.by_environment() for rows in (self._observations, self._actions, self._rewards)
        )
        outputs = {name: rows.by_environment() for name, rows in self._outputs.items()}
        return [self._episode(chunk, observations, actions, rewards, outputs) for chunk in chunks]

    def _episode(
        self,
        chunk: Chunk,
        all_observations: Columns,
        actions: Columns,
        rewards: Columns,
        all_outputs: Mapping[str, Columns],
    ) -> SingleAgentEpisode:
        slot, stop = chunk.slot, chunk.stop
        lookback = min(self._lookback, chunk.start - max(chunk.begin, 0))
        first = chunk.start - lookback
        observations = all_observations.part(first, stop + 1, slot)
        # Only at an episode's start are there fewer frames than a stack needs.
        padding = max(self._frames - 1 - lookback, 0)
        if padding:
            observations = np.concatenate([observations[:1].repeat(padding, 0), observations])
        output_start = chunk.start - self._first
        outputs = {
            name: lookback_buffer(columns.part(output_start, stop - self._first, slot), 0)
            for name, columns in all_outputs.items()
        }
        return SingleAgentEpisode(
            id_=chunk.episode_id,
            observations=lookback_buffer(observations, lookback + padding),
            observation_space=self._observation_space,
            # Environments' infos are read while stepping and not kept.
            infos=lookback_buffer([{} for _ in range(stop + 1 - first)], lookback),
            actions=lookback_buffer(actions.part(first, stop, slot), lookback),
            action_space=self._action_space,
            rewards=lookback_buffer(rewards.part(first, stop, slot), lookback, _REWARD_SPACE),
            terminated=chunk.terminated,
            truncated=chunk.truncated,
            extra_model_outputs=outputs,
            t_started=chunk.start - chunk.begin,
        )

    def _new_id(self) -> str:
        self._num_ids += 1
        return f"{self._id_prefix}{self._num_ids:x}"

    def _drop_old_rows(self) -> None:
        kept = min(self._lookback, self._row)
        self._observations.keep_last(kept + 1)
        if self._actions is not None and self._rewards is not None:
            self._actions.keep_last(kept)
            self._rewards.keep_last(kept)
        self._row = self._first = kept


def lookback_buffer(
    data: Any, lookback: int, space: gym.Space | None = None
) -> InfiniteLookbackBuffer:
    """Wraps ``data`` of ``lookback`` + T rows as RLlib's episodes keep it."""
    buffer = InfiniteLookbackBuffer(data, space=space)
    # Set afterwards: the constructor caps it by len(data), which counts the keys of nested data.
    buffer.lookback = lookback
    return buffer
