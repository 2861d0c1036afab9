"""The arrays of one fragment: filled a vector step at a time, cut into episode chunks at last."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rlssl.old_names import attribute_finder
from rlssl.ray_internals.env_runner import lookback_buffer, numpy_episode

_REWARD_SPACE = gym.spaces.Box(-np.inf, np.inf, shape=(), dtype=np.float32)

#: StepBuffer allocated at first; doubled when a fragment is longer.
_INITIAL_ROWS = 64


class StepBuffer:
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

    def replace_last(self, row: Any) -> None:
        """Copies a row, a struct of [N, ...], over the last."""
        self.size -= 1
        self.append(row)

    def last(self) -> Any:
        """Returns the newest row, a struct of [N, ...]: a view, valid until the next change."""
        if self._struct is None:
            return self._leaves[0][self.size - 1]
        return self._unflatten([leaf[self.size - 1] for leaf in self._leaves])

    def by_environment(self) -> "StepsByEnv":
        """Copies all rows, those of one environment behind each other."""
        # Not ascontiguousarray: of a single environment that would be a view.
        swapped = [leaf[: self.size].swapaxes(0, 1).copy(order="C") for leaf in self._leaves]
        return StepsByEnv(self._struct, swapped)

    def keep_last(self, count: int) -> None:
        """Drops all rows but the last ``count``."""
        for leaf in self._leaves:
            leaf[:count] = leaf[self.size - count : self.size].copy()
        self.size = count

    def _unflatten(self, leaves: list[np.ndarray]) -> Any:
        return tree.unflatten_as(self._struct, leaves)


class StepsByEnv:
    """A copy of `StepBuffer` as [N, rows, ...]: what one environment did lies in one piece."""

    def __init__(self, struct: Any, leaves: list[np.ndarray]) -> None:
        self._struct, self._leaves = struct, leaves

    def part(self, start: int, stop: int, slot: int) -> Any:
        """Steps ``start`` to ``stop`` of one environment: a struct of [stop - start, ...] views."""
        if self._struct is None:
            return self._leaves[0][slot, start:stop]
        return tree.unflatten_as(self._struct, [leaf[slot, start:stop] for leaf in self._leaves])


class ChunkSpan(NamedTuple):
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
    # Struct of [...]: the last observation, where row ``stop`` holds that of the next episode.
    final_observation: Any = None


class Fragment:
    """What N environments did since the last cut, with the rows before it that serve as lookback.

    Row t holds the observations before step t and what step t gave; one more row of observations
    follows. The step that resets an environment (NEXT_STEP autoreset) fills a row like any other,
    but no episode covers it. A step that ends an episode and resets at once (SAME_STEP) leaves the
    next one's first observation, and its own last one is given to `close`.
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
        self._observations = StepBuffer(observations)
        self._observations.append(observations)
        self._actions: StepBuffer | None = None
        self._rewards: StepBuffer | None = None
        self._outputs: dict[str, StepBuffer] = {}
        # Struct of [N, ...]: a recurrent module's state before the fragment.
        self._state_before: Any = None
        self._structs = [
            get_base_struct_from_space(space)
            for space in (observation_space, action_space, _REWARD_SPACE)
        ]
        self._num_envs = len(tree.flatten(observations)[0])
        self._closed: list[ChunkSpan] = []
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
            self._actions, self._rewards = StepBuffer(actions), StepBuffer(rewards)
        # Outputs keep no lookback, since exploring and acting greedily may give different ones.
        if self._row == self._first:
            self._outputs = {name: StepBuffer(values) for name, values in outputs.items()}
        self._actions.append(actions)
        self._rewards.append(rewards)
        for name, rows in self._outputs.items():
            rows.append(outputs[name])
        self._observations.append(observations)
        self._steps += stepped
        self._row += 1

    def skip(self, observations: Any) -> None:
        """Replaces what to act on, [N, ...], by what belongs to no episode begun before.

        Call it when all unfinished episodes were abandoned.
        """
        if self._row == self._first:
            self._observations.replace_last(observations)
            return
        # Finished episodes lie in the rows before: this one is without an owner.
        assert self._actions is not None and self._rewards is not None
        for rows in (self._actions, self._rewards, *self._outputs.values()):
            rows.append(rows.last())
        self._observations.append(observations)
        self._row += 1

    def close(
        self, slot: int, *, terminated: bool, truncated: bool, final_observation: Any = None
    ) -> None:
        """Ends the learning episode of environment ``slot`` at the step added last.

        Args:
            slot: Which.
            terminated: Whether it ended by the rules of the game.
            truncated: Whether it was cut off.
            final_observation: Struct of [...], where the step has reset the environment.
        """
        self._closed.append(self._chunk(slot, terminated, truncated, final_observation))
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

    def _chunk(
        self, slot: int, terminated: bool = False, truncated: bool = False, final: Any = None
    ) -> ChunkSpan:
        begin = self._row - int(self._steps[slot])
        start = max(begin, self._first)
        return ChunkSpan(
            slot, self._ids[slot], begin, start, self._row, terminated, truncated, final
        )

    def _episodes(self, chunks: list[ChunkSpan]) -> list[SingleAgentEpisode]:
        assert self._actions is not None and self._rewards is not None  # chunks have steps
        observations, actions, rewards = (
            rows.by_environment() for rows in (self._observations, self._actions, self._rewards)
        )
        outputs = {name: rows.by_environment() for name, rows in self._outputs.items()}
        return [self._episode(chunk, observations, actions, rewards, outputs) for chunk in chunks]

    def _episode(
        self,
        chunk: ChunkSpan,
        all_observations: StepsByEnv,
        actions: StepsByEnv,
        rewards: StepsByEnv,
        all_outputs: Mapping[str, StepsByEnv],
    ) -> SingleAgentEpisode:
        slot, stop = chunk.slot, chunk.stop
        lookback = min(self._lookback, chunk.start - max(chunk.begin, 0))
        first = chunk.start - lookback
        observations = self._observed(chunk, first, all_observations)
        # Only at an episode's start are there fewer frames than a stack needs.
        padding = max(self._frames - 1 - lookback, 0)
        if padding:
            observations = np.concatenate([observations[:1].repeat(padding, 0), observations])
        of_observations, of_actions, of_rewards = self._structs
        return numpy_episode(
            chunk.episode_id,
            observations=lookback_buffer(
                observations, lookback + padding, self._observation_space, of_observations
            ),
            # Environments' infos are read while stepping and not kept.
            infos=lookback_buffer([{} for _ in range(stop + 1 - first)], lookback, None, None),
            actions=lookback_buffer(
                actions.part(first, stop, slot), lookback, self._action_space, of_actions
            ),
            rewards=lookback_buffer(
                rewards.part(first, stop, slot), lookback, _REWARD_SPACE, of_rewards
            ),
            extra_model_outputs={
                name: self._output(name, chunk, columns) for name, columns in all_outputs.items()
            },
            num_steps=stop - chunk.start,
            t_started=chunk.start - chunk.begin,
            terminated=chunk.terminated,
            truncated=chunk.truncated,
        )

    def _observed(self, chunk: ChunkSpan, first: int, rows: StepsByEnv) -> Any:
        """The observations of a chunk from row ``first`` on, its last one included."""
        final = chunk.final_observation
        if final is None:
            return rows.part(first, chunk.stop + 1, chunk.slot)
        return tree.map_structure(
            lambda before, last: np.concatenate([before, np.asarray(last, before.dtype)[None]]),
            rows.part(first, chunk.stop, chunk.slot),
            final,
        )

    def _output(self, name: str, chunk: ChunkSpan, rows: StepsByEnv) -> Any:
        """What the module gave beside actions; of its state also the one that it began with."""
        values = rows.part(chunk.start - self._first, chunk.stop - self._first, chunk.slot)
        if name != Columns.STATE_OUT or chunk.begin >= self._first or self._state_before is None:
            return lookback_buffer(values, 0, None, None)
        before = tree.map_structure(
            lambda state, later: np.concatenate([state[chunk.slot][None], later]),
            self._state_before,
            values,
        )
        return lookback_buffer(before, 1, None, None)

    def _new_id(self) -> str:
        self._num_ids += 1
        return f"{self._id_prefix}{self._num_ids:x}"

    def _drop_old_rows(self) -> None:
        kept = min(self._lookback, self._row)
        states = self._outputs.get(Columns.STATE_OUT)
        if states is not None and self._row > self._first:
            self._state_before = tree.map_structure(np.copy, states.last())
        self._observations.keep_last(kept + 1)
        if self._actions is not None and self._rewards is not None:
            self._actions.keep_last(kept)
            self._rewards.keep_last(kept)
        self._row = self._first = kept


#: For checkpoints of earlier versions.
__getattr__ = attribute_finder(__name__)
