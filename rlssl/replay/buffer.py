"""The replay buffer: takes chunks of episodes, gives batches of stacked n-step transitions."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.environments.goals import GoalFunctions
from rlssl.replay import saving
from rlssl.replay.checks import check_intrinsic_rewards, check_priorities, check_sample
from rlssl.replay.chunks import Chunk, read_chunk
from rlssl.replay.frames import Frames
from rlssl.replay.gathering import Gatherer
from rlssl.replay.hindsight.relabeling import Goals, Relabeler, RelabelSettings
from rlssl.replay.ring import Ring
from rlssl.replay.saving import generator_state, set_generator_state
from rlssl.replay.storage import RowStorage, has_intrinsic_rewards
from rlssl.space_layout import Layout, leaves_as_json

#: Prefix of the arrays of get_state() that have one row per row in use.
_ROWS = "rows/"


class ReplayBuffer:
    """Stores the newest steps of any number of interleaved episodes, each frame once.

    A new row replaces the oldest row, whatever environment it comes from. Draws are uniform over
    all steps whose stack is complete, with replacement. This includes the last steps of every
    episode. All methods may be called from several threads.

    Example:
        An episode of three steps with the rewards 1, 2 and 4:

        >>> from gymnasium.spaces import Box, Discrete
        >>> space, actions = Box(-9, 9, (1,), np.float32), Discrete(2)
        >>> episode = SingleAgentEpisode(
        ...     observations=[np.full(1, t, np.float32) for t in range(4)],
        ...     actions=[0, 1, 0],
        ...     rewards=[1.0, 2.0, 4.0],
        ...     terminated=True,
        ...     len_lookback_buffer=0,
        ... ).to_numpy()
        >>> buffer = ReplayBuffer(100, space, actions, seed=0)
        >>> buffer.add([episode])
        >>> len(buffer), buffer.sample(32)["obs"].shape
        (3, (32, 1))

        Two-step returns: 1 + 0.5 * 2 = 2, 2 + 0.5 * 4 = 4, and 4 for the last step.

        >>> buffer.gather(buffer.drawable_indices(), n_step=2, gamma=0.5)["rewards"]
        array([2., 4., 4.], dtype=float32)
    """

    #: Kind of the draws; a saved buffer can only be restored into a buffer of the same kind.
    kind = "uniform"

    def __init__(
        self,
        capacity: int,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        frame_stack: int = 1,
        seed: int | None = None,
        storage_path: str | os.PathLike[str] | None = None,
        identity: bool = False,
        relabel: RelabelSettings | None = None,
        goal_functions: GoalFunctions | None = None,
    ) -> None:
        """Allocates address space; the memory is used only when rows are written.

        Args:
            capacity: Number of rows, that is frames; > frame_stack. An episode of T steps takes
                T + 1 rows.
            observation_space: The space of one frame: Box, Discrete, MultiDiscrete, MultiBinary, or
                Dict or Tuple of them.
            action_space: A space of the same kinds.
            frame_stack: Frames per sampled observation; > 1 only for a Box of shape [D], [C, H, W]
                or [H, W, C].
            seed: Seed of the draws; None: not reproducible.
            storage_path: Folder on a local disk that holds the frames, instead of memory. The files
                vanish with the process; to save a buffer, use `save`.
            identity: Whether batches have ``episode`` (int64) and ``step`` (int32), which say where
                a row comes from; see `rlssl.batches`.
            relabel: How `sample` replaces goals; None: it does not. See docs/goals.md.
            goal_functions: The environment's rewards, which ``relabel`` needs.

        Raises:
            ValueError: If ``capacity`` is too small or a space cannot be stored.
            OSError: If ``storage_path`` has too little room.
        """
        self._frames = Frames(observation_space, frame_stack)
        self._actions = Layout(action_space, "action_space")
        if not frame_stack < capacity < 2**31:
            raise ValueError(
                f"capacity must be > frame_stack ({frame_stack}) and < 2**31; got {capacity}."
            )
        self.capacity, self.frame_stack = int(capacity), frame_stack
        self._rows = RowStorage(
            self.capacity,
            self._frames.stored,
            self._actions.leaves,
            storage_path,
            identity=identity,
        )
        self._ring = Ring(self._rows, frame_stack)
        self._gatherer = Gatherer(self._frames, self._actions, self._rows, self._ring)
        #: Replaces goals; None: steps are drawn as they were sampled.
        self.relabeler: Relabeler | None = None
        if relabel is not None and goal_functions is not None:
            layout = self._frames.layout
            self.relabeler = Relabeler(relabel, goal_functions, layout, self._rows, self._ring)
        self._generator = np.random.default_rng(seed)
        self._lock = threading.RLock()
        #: Number of steps added so far.
        self.num_added = 0

    def __len__(self) -> int:
        """Number of steps that can be drawn."""
        return self._ring.num_drawable

    @property
    def num_rows(self) -> int:
        """Number of rows in use, at most ``capacity``."""
        return self._ring.num_rows

    @property
    def num_open_episodes(self) -> int:
        """Number of unfinished episodes that a later chunk may continue."""
        return len(self._ring.open)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays with every row in use, including those in ``storage_path``."""
        tables = 0 if self.relabeler is None else self.relabeler.nbytes
        return sum(array.nbytes for array in self._rows.arrays().values()) + tables

    def drawable_indices(self) -> np.ndarray:
        """[len(self)], int64, indices of all steps that can be drawn, oldest row first."""
        with self._lock:
            return np.sort(self._ring.serials(np.flatnonzero(self._rows.drawable)))

    def add(
        self,
        episodes: Sequence[SingleAgentEpisode],
        intrinsic_rewards: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Adds chunks of episodes; the cost depends only on the number of steps in the chunks.

        A chunk continues the chunk with the same ``id_`` that ended at its ``t_started``. If that
        chunk is missing or its last row was replaced, the new chunk starts with its own lookback
        frames. Steps whose stack is then incomplete are not drawn; their frames are kept for the
        stacks of later steps.

        Args:
            episodes: Numpy-backed chunks of single frames, as `rlssl.rollouts` makes them. Chunks
                without a step are ignored.
            intrinsic_rewards: [T] for each chunk. Give them for all steps or for none.

        Raises:
            ValueError: If a chunk does not fit the spaces, a reward is not finite (the message
                names episode and index), or only some steps have intrinsic rewards. Then nothing is
                added.
        """
        with self._lock:
            for chunk in self._checked(episodes, intrinsic_rewards):
                for piece in chunk.pieces(self._ring.longest_piece):
                    self._append(piece)

    def sample(
        self,
        batch_size: int,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        beta: float | None = None,
        sequence_length: int | None = None,
    ) -> dict[str, Any]:
        """Draws transitions of up to ``n_step`` steps, or sequences of them.

        Let k <= ``n_step`` be the number of steps until the episode ends, or until the newest
        observation of an unfinished episode::

            REWARDS = sum_{i<k} gamma^i r_{t+i}        NEXT_OBS = o_{t+k}
            discounts = gamma^k, or 0 if the last of the k steps terminated

        The target is ``REWARDS + discounts * V(NEXT_OBS)`` in every case.

        Args:
            batch_size: B >= 1.
            n_step: n >= 1.
            gamma: Discount per step, in [0, 1].
            beta: Not used here: uniform draws have weight 1.
            sequence_length: T >= 1: each draw is followed by the next T - 1 steps of its episode.
                None: no time axis.

        Returns:
            Arrays by name:

            - [B, ...], or [B, T, ...] with ``sequence_length``: OBS, NEXT_OBS (stacked), ACTIONS,
              REWARDS (float32), TERMINATEDS, TRUNCATEDS (bool) of `Columns`; ``n_step`` (k, int32)
              and ``discounts`` (float32); ``intrinsic_rewards`` (float32, summed like REWARDS) if
              the buffer has them.
            - [B, T], with ``sequence_length`` only: ``mask`` (bool), False after the last step of
              the episode. All other arrays are 0 there.
            - [B]: ``relabeled`` (bool), whether the row's goal was replaced, if the buffer does so.
            - [B]: ``weights`` (float32) and ``indices`` (int64) of the (first) steps; pass the
              indices to `update_priorities`.

        Raises:
            ValueError: If an argument is out of range or nothing can be drawn.
        """
        del beta
        check_sample(batch_size, n_step, gamma, sequence_length)
        with self._lock:
            self._check_not_empty()
            slots = self._ring.draw(self._generator, batch_size)
            batch = self._drawn(slots, n_step, gamma, sequence_length)
            return batch | {"weights": np.ones(batch_size, np.float32)}

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """Checks the arguments and does nothing: uniform draws have no priorities.

        Raises:
            ValueError: See `PrioritizedReplayBuffer.update_priorities`.
        """
        with self._lock:
            check_priorities(indices, priorities, self._ring.next)

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns a copy of the whole state as a flat dict of arrays.

        The copy is as large as the rows in use. `save` needs less memory: it writes pieces.
        """
        with self._lock:
            serials = np.arange(self._ring.oldest, self._ring.next)
            slots = self._ring.slots(serials)
            rows = {_ROWS + name: array[slots] for name, array in self._arrays().items()}
            return self._head() | rows

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a state of `get_state`: the next batches are the same, bit for bit.

        Raises:
            ValueError: If the state is from a buffer with another capacity, space, frame stack or
                kind; the message says which.
        """
        with self._lock:
            saving.check_description(self._description(), json.loads(str(state["description"])))
            rows = {
                name.removeprefix(_ROWS): array
                for name, array in state.items()
                if name.startswith(_ROWS)
            }
            self._restore_head(state, has_intrinsic_rewards(rows))
            slots = self._ring.slots(np.arange(self._ring.oldest, self._ring.next))
            for name, array in self._arrays().items():
                array[slots] = rows[name]
            self._rows_restored()

    def save(
        self, folder: str | os.PathLike[str], *, piece_bytes: int = saving.PIECE_BYTES
    ) -> None:
        """Writes the state into ``folder``, in compressed pieces with checksums.

        The old content of the folder is replaced at the end, when everything is written. If the
        process is killed before, the old content stays.

        Args:
            folder: The folder; created if it does not exist.
            piece_bytes: Bytes of rows per file, before compression; > 0. Saving takes the memory of
                a few pieces.
        """
        with self._lock:
            saving.write(
                Path(folder),
                self._description(),
                self._head(),
                self._arrays(),
                (self._ring.oldest, self._ring.next),
                piece_bytes=piece_bytes,
            )

    def restore(self, folder: str | os.PathLike[str]) -> None:
        """Reads a state that `save` wrote: the next batches are the same, bit for bit.

        Raises:
            FileNotFoundError: If the folder has no saved state.
            ValueError: If a file is missing or changed, or the state is from another buffer; see
                `set_state`. Then this buffer is unchanged.
        """
        with self._lock:
            saved = saving.Saved(Path(folder))
            saving.check_description(self._description(), saved.description)
            saved.verify()
            self._restore_head(saved.head(), has_intrinsic_rewards(dict.fromkeys(saved.row_names)))
            saved.read_rows(self._arrays())
            self._rows_restored()

    def _checked(
        self, episodes: Sequence[SingleAgentEpisode], intrinsic_rewards: Sequence[Any] | None
    ) -> list[Chunk]:
        given = intrinsic_rewards is not None
        has_bonuses = None if not self.num_added else self._rows.intrinsic_rewards is not None
        check_intrinsic_rewards(len(episodes), intrinsic_rewards, has_bonuses)
        bonuses = intrinsic_rewards if intrinsic_rewards is not None else [None] * len(episodes)
        chunks = [
            read_chunk(episode, self._frames, self._actions, bonus)
            for episode, bonus in zip(episodes, bonuses, strict=True)
            if len(episode)
        ]
        if given and chunks:
            self._rows.allocate_intrinsic_rewards()
        return chunks

    def _append(self, chunk: Chunk) -> None:
        rows, length = self._rows, len(chunk)
        placed = self._ring.place(
            chunk.episode_id,
            chunk.t_started,
            chunk.before,
            length,
            ends=chunk.terminated or chunk.truncated,
        )
        for array, leaf in zip(rows.observations, chunk.observations, strict=True):
            rows.write(array, placed.first_row, leaf[placed.skipped_frames :])
        for array, leaf in zip(rows.actions, chunk.actions, strict=True):
            rows.write_steps(array, placed.first_step, placed.first_row, leaf)
        rows.write_steps(rows.rewards, placed.first_step, placed.first_row, chunk.rewards)
        first_step = chunk.t_started - chunk.before + placed.skipped_frames
        rows.write_identity(
            placed.first_row, chunk.episode_id, first_step, chunk.t_started + length
        )
        intrinsic, given = rows.intrinsic_rewards, chunk.intrinsic_rewards
        if intrinsic is not None and given is not None:
            rows.write_steps(intrinsic, placed.first_step, placed.first_row, given)
        if self.relabeler is not None:
            self.relabeler.added(placed)
        last = placed.last_step % self.capacity
        rows.terminated[last], rows.truncated[last] = chunk.terminated, chunk.truncated
        self.num_added += length
        self._drawable_changed(placed.lost, placed.gained)

    def _drawable_changed(self, lost: np.ndarray, gained: np.ndarray) -> None:
        """Called with the slots that can no longer be drawn and the slots that now can.

        A slot may be in both: first lost, then gained.
        """

    def gather(
        self,
        indices: np.ndarray,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        goals: Goals | None = None,
    ) -> dict[str, Any]:
        """Returns the transitions of given steps, in the format of `sample`, without weights.

        Args:
            indices: [B], from a batch or from `drawable_indices`.
            n_step: See `sample`.
            gamma: See `sample`.
            goals: From `goals_in`; None: as the steps were sampled.

        Raises:
            ValueError: If one of the steps has been replaced.
        """
        with self._lock:
            return self._gatherer.transitions(self._slots_of(indices), n_step, gamma, goals=goals)

    def windows(
        self, indices: np.ndarray, *, before: int = 0, after: int = 0, goals: Goals | None = None
    ) -> dict[str, Any]:
        """Returns the rows around given steps in their episodes.

        Args:
            indices: [B], from a batch or from `drawable_indices`.
            before: Rows before each step; >= 0.
            after: Rows after each step; >= 0. The last one may be a final observation.
            goals: From `goals_in`: each goal is that of all rows of its window. None: as the steps
                were sampled.

        Returns:
            Arrays [B, before + 1 + after, ...]: OBS (stacked), ACTIONS, REWARDS, TERMINATEDS;
            ``valid`` (bool), False outside of the episode, where OBS repeats its nearest row;
            ``episode`` and ``step`` if the buffer has them. Where there is no step, rewards and
            flags are 0, and the action is that of the given step.

        Raises:
            ValueError: If one of the steps has been replaced.
        """
        with self._lock:
            return self._gatherer.windows(self._slots_of(indices), before, after, goals)

    def goals_in(self, batch: Mapping[str, Any]) -> Goals | None:
        """The goals of a batch of `sample`, for more columns of its rows; None: no relabeling."""
        if self.relabeler is None:
            return None
        return self.relabeler.goals_in(batch)

    def _slots_of(self, indices: np.ndarray) -> np.ndarray:
        if np.any(indices < self._ring.oldest):
            raise ValueError(f"steps {indices[indices < self._ring.oldest]} are gone.")
        return self._ring.slots(indices)

    def _drawn(
        self, slots: np.ndarray, n_step: int, gamma: float, sequence_length: int | None
    ) -> dict[str, Any]:
        """Returns the batch of drawn steps at ``slots`` [B], without weights."""
        goals = None
        if self.relabeler is not None:
            goals = self.relabeler.draw(slots, self._generator)
        return self._gatherer.transitions(slots, n_step, gamma, sequence_length, goals)

    def _arrays(self) -> dict[str, np.ndarray]:
        """All arrays [capacity, ...], by name."""
        return self._rows.arrays()

    def _description(self) -> dict[str, Any]:
        """Properties that must agree when a state is restored; plain JSON."""
        return {
            "kind": self.kind,
            "capacity": self.capacity,
            "frame_stack": self.frame_stack,
            "observations": leaves_as_json(self._frames.stored),
            "actions": leaves_as_json(self._actions.leaves),
            # Added only where it is true: buffers of earlier versions do not have it.
            **({"identity": True} if self._rows.episode is not None else {}),
        }

    def _head(self) -> dict[str, np.ndarray]:
        """The state without the rows."""
        return {
            "description": np.array(json.dumps(self._description())),
            **self._ring.get_state(),
            "num_added": np.array(self.num_added, np.int64),
            "generator": generator_state(self._generator),
        }

    def _restore_head(self, head: Mapping[str, np.ndarray], with_intrinsic_rewards: bool) -> None:
        """Restores everything except the rows."""
        self._ring.set_state(head)
        self.num_added = int(head["num_added"])
        set_generator_state(self._generator, head["generator"])
        self._rows.intrinsic_rewards = None
        if with_intrinsic_rewards:
            self._rows.allocate_intrinsic_rewards()

    def _rows_restored(self) -> None:
        """Called after the rows have been restored; computes what depends on them."""
        self._ring.num_drawable = int(np.count_nonzero(self._rows.drawable))
        if self.relabeler is not None:
            self.relabeler.rebuild()

    def _check_not_empty(self) -> None:
        if not len(self):
            raise ValueError(
                f"nothing can be drawn: {self.num_added} steps were added, and the buffer holds "
                "none with a complete stack. Add episodes before sampling."
            )
