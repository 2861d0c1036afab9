"""The arrays of one fragment: filled step by step, then cut into episode chunks."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rlssl.connectors.rollout_order import following_episode
from rlssl.old_names import attribute_finder
from rlssl.ray_internals.env_runner import lookback_buffer, numpy_episode

_REWARD_SPACE = gym.spaces.Box(-np.inf, np.inf, shape=(), dtype=np.float32)

#: Rows that a StepBuffer allocates first; doubled when a fragment is longer.
_INITIAL_ROWS = 64


class StepBuffer:
    """A growing array [rows, N, ...], or a nested struct of such arrays.

    Example:
        >>> buffer = StepBuffer(np.zeros(2))  # two environments
        >>> buffer.append(np.array([1.0, 2.0]))
        >>> buffer.append(np.array([3.0, 4.0]))
        >>> buffer.by_environment().part(0, 2, slot=1)
        array([2., 4.])
    """

    def __init__(self, like: Any) -> None:
        """Allocates the first rows.

        Args:
            like: One row: an array [N, ...] or a struct of them, with the shapes and dtypes.

        Raises:
            TypeError: If a leaf is not an array of numbers.
        """
        self._struct = tree.map_structure(lambda _: None, like)
        self._leaves = [self._allocate(leaf) for leaf in tree.flatten(like)]
        self.size = 0

    @staticmethod
    def _allocate(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, np.ndarray) or leaf.dtype == object or leaf.ndim < 1:
            raise TypeError(
                "vector environments and modules must return arrays of numbers, [num_envs, ...]; "
                f"got {type(leaf).__name__}: {leaf!r}. Observations such as text need a wrapper."
            )
        return np.empty((_INITIAL_ROWS, *leaf.shape), leaf.dtype)

    def append(self, row: Any) -> None:
        """Copies one row, a struct of [N, ...], to the end."""
        if self.size == len(self._leaves[0]):
            self._leaves = [np.concatenate([leaf, np.empty_like(leaf)]) for leaf in self._leaves]
        if isinstance(row, np.ndarray):
            self._leaves[0][self.size] = row
        else:
            for leaf, values in zip(self._leaves, tree.flatten(row), strict=True):
                leaf[self.size] = values
        self.size += 1

    def replace_last(self, row: Any) -> None:
        """Copies a row, a struct of [N, ...], over the last row."""
        self.size -= 1
        self.append(row)

    def last(self) -> Any:
        """Returns the newest row, a struct of [N, ...]: a view, valid until the next change."""
        if self._struct is None:
            return self._leaves[0][self.size - 1]
        return self._unflatten([leaf[self.size - 1] for leaf in self._leaves])

    def by_environment(self) -> "StepsByEnv":
        """Copies all rows to [N, rows, ...], so that one environment's steps are contiguous."""
        # Not ascontiguousarray: for a single environment that would be a view.
        swapped = [leaf[: self.size].swapaxes(0, 1).copy(order="C") for leaf in self._leaves]
        return StepsByEnv(self._struct, swapped)

    def keep_last(self, count: int) -> None:
        """Drops all rows except the last ``count``."""
        for leaf in self._leaves:
            leaf[:count] = leaf[self.size - count : self.size].copy()
        self.size = count

    def _unflatten(self, leaves: list[np.ndarray]) -> Any:
        return tree.unflatten_as(self._struct, leaves)


class StepsByEnv:
    """A copy of a `StepBuffer` as [N, rows, ...]: one environment's steps are contiguous."""

    def __init__(self, struct: Any, leaves: list[np.ndarray]) -> None:
        self._struct, self._leaves = struct, leaves

    def part(self, start: int, stop: int, slot: int) -> Any:
        """Steps start to stop - 1 of one environment: a struct of [stop - start, ...] views."""
        if self._struct is None:
            return self._leaves[0][slot, start:stop]
        return tree.unflatten_as(self._struct, [leaf[slot, start:stop] for leaf in self._leaves])


class ChunkSpan(NamedTuple):
    """The rows of a chunk of a learning episode in the fragment's arrays."""

    slot: int
    episode_id: str
    # Row of the episode's first observation; negative if an earlier fragment has dropped the row.
    begin: int
    # The chunk has the step rows start to stop - 1, and the observations start to stop.
    start: int
    stop: int
    terminated: bool = False
    truncated: bool = False
    # Struct of [...]: the last observation, if row ``stop`` holds the next episode's first one.
    final_observation: Any = None


class Fragment:
    """The steps of N environments since the last cut, and earlier rows as lookback.

    Row t holds the observations before step t, and the actions, rewards and outputs of step t. One
    more row of observations follows. A step that resets an environment (NEXT_STEP autoreset) fills
    a row too, but belongs to no episode. After a step that ends an episode and resets (SAME_STEP
    autoreset), the next row holds the new episode's first observation; `close` then needs the old
    episode's last observation.
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
            observations: Struct of [N, ...], the first observations.
            observation_space: Space of one environment and one frame.
            action_space: Space of one environment.
            lookback: Steps before a chunk that the chunk includes, if its episode has them.
            frames: Number of frames in a stacked observation. A chunk has at least ``frames - 1``
                observations of lookback; at the start of an episode they repeat the first one.
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
        # Number of step rows, and the number of them that are lookback from earlier fragments.
        self._row = self._first = 0
        # Steps since each learning episode began; also 0 while an environment waits for a reset.
        self._steps = np.zeros(self._num_envs, np.int64)
        # Without "_": RLlib's Learner connectors add one to the ids that they have made unique.
        prefix = uuid.uuid4().hex
        self._ids = [f"{prefix}{slot:x}.0" for slot in range(self._num_envs)]

    def latest_observations(self) -> Any:
        """Returns the policy's next input, a struct of [N, ...]: a view, valid until a change."""
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
            actions: Struct of [N, ...], the policy's actions.
            rewards: [N], the rewards to learn from.
            outputs: Name -> struct of [N, ...], the module's other outputs.
            observations: Struct of [N, ...], the observations after the step.
            stepped: [N], bool; False where the step was a reset.
        """
        if self._actions is None or self._rewards is None:
            self._actions, self._rewards = StepBuffer(actions), StepBuffer(rewards)
        # Outputs have no lookback, because their names may change between exploring and not.
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
        """Replaces the policy's next input, [N, ...], by the first observations of new episodes.

        Call it after all unfinished episodes were abandoned.
        """
        if self._row == self._first:
            self._observations.replace_last(observations)
            return
        # Finished episodes need the rows before. The new row belongs to no episode.
        assert self._actions is not None and self._rewards is not None
        for rows in (self._actions, self._rewards, *self._outputs.values()):
            rows.append(rows.last())
        self._observations.append(observations)
        self._row += 1

    def close(
        self, slot: int, *, terminated: bool, truncated: bool, final_observation: Any = None
    ) -> None:
        """Ends the learning episode of environment ``slot`` at the last step.

        Args:
            slot: The environment.
            terminated: Whether the episode has terminated.
            truncated: Whether the episode was truncated.
            final_observation: Struct of [...], if the step has also reset the environment.
        """
        self._closed.append(self._span(slot, terminated, truncated, final_observation))
        self._steps[slot] = 0
        self._ids[slot] = following_episode(self._ids[slot])

    def abandon(self, slots: Iterable[int] | None = None) -> tuple[int, int]:
        """Drops the steps of unfinished episodes; new episodes begin with the next row.

        Args:
            slots: Environments whose episodes are dropped; None means all.

        Returns:
            Number of episodes dropped, and number of their steps in this fragment.
        """
        episodes = steps = 0
        for slot in range(self._num_envs) if slots is None else slots:
            episodes += int(self._steps[slot] > 0)
            steps += int(min(self._steps[slot], self._row - self._first))
            self._steps[slot] = 0
            self._ids[slot] = following_episode(self._ids[slot])
        return episodes, steps

    def cut(self, *, with_unfinished: bool) -> list[SingleAgentEpisode]:
        """Ends the fragment; unfinished episodes continue in the next one under the same ids.

        Args:
            with_unfinished: Whether to return the chunks of unfinished episodes too.

        Returns:
            Numpy-backed, non-empty chunks, which own their arrays: first the closed episodes in the
            order of closing, then the unfinished ones by environment.
        """
        chunks, self._closed = self._closed, []
        if with_unfinished:
            unfinished = (self._span(slot) for slot in range(self._num_envs))
            chunks += [chunk for chunk in unfinished if chunk.stop > chunk.start]
        episodes = self._episodes(chunks) if chunks else []
        self._drop_old_rows()
        return episodes

    def _span(
        self, slot: int, terminated: bool = False, truncated: bool = False, final: Any = None
    ) -> ChunkSpan:
        begin = self._row - int(self._steps[slot])
        start = max(begin, self._first)
        return ChunkSpan(
            slot, self._ids[slot], begin, start, self._row, terminated, truncated, final
        )

    def _episodes(self, chunks: list[ChunkSpan]) -> list[SingleAgentEpisode]:
        assert self._actions is not None and self._rewards is not None  # there are steps
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
        observations = self._chunk_observations(chunk, first, all_observations)
        # Only the start of an episode has fewer frames than a stack needs.
        padding = max(self._frames - 1 - lookback, 0)
        if padding:
            observations = np.concatenate([observations[:1].repeat(padding, 0), observations])
        of_observations, of_actions, of_rewards = self._structs
        return numpy_episode(
            chunk.episode_id,
            observations=lookback_buffer(
                observations, lookback + padding, self._observation_space, of_observations
            ),
            # The environments' infos are read while stepping and not stored.
            infos=lookback_buffer([{} for _ in range(stop + 1 - first)], lookback, None, None),
            actions=lookback_buffer(
                actions.part(first, stop, slot), lookback, self._action_space, of_actions
            ),
            rewards=lookback_buffer(
                rewards.part(first, stop, slot), lookback, _REWARD_SPACE, of_rewards
            ),
            extra_model_outputs={
                name: self._chunk_output(name, chunk, columns)
                for name, columns in all_outputs.items()
            },
            num_steps=stop - chunk.start,
            t_started=chunk.start - chunk.begin,
            terminated=chunk.terminated,
            truncated=chunk.truncated,
        )

    def _chunk_observations(self, chunk: ChunkSpan, first: int, rows: StepsByEnv) -> Any:
        """The observations of a chunk from row ``first`` to its last observation."""
        final = chunk.final_observation
        if final is None:
            return rows.part(first, chunk.stop + 1, chunk.slot)
        return tree.map_structure(
            lambda before, last: np.concatenate([before, np.asarray(last, before.dtype)[None]]),
            rows.part(first, chunk.stop, chunk.slot),
            final,
        )

    def _chunk_output(self, name: str, chunk: ChunkSpan, rows: StepsByEnv) -> Any:
        """One output of the module in a chunk; STATE_OUT has the initial state as lookback."""
        values = rows.part(chunk.start - self._first, chunk.stop - self._first, chunk.slot)
        if name != Columns.STATE_OUT or chunk.begin >= self._first or self._state_before is None:
            return lookback_buffer(values, 0, None, None)
        before = tree.map_structure(
            lambda state, later: np.concatenate([state[chunk.slot][None], later]),
            self._state_before,
            values,
        )
        return lookback_buffer(before, 1, None, None)

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
