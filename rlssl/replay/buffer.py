"""The replay buffer: chunks in, batches of stacked n-step transitions out."""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.replay import saving
from rlssl.replay.chunks import Chunk, read_chunk
from rlssl.replay.frames import Frames
from rlssl.replay.layout import Layout, Leaf
from rlssl.replay.n_step import n_step_window
from rlssl.replay.ring import Ring
from rlssl.replay.saving import generator_state, set_generator_state
from rlssl.replay.storage import RowStorage, has_intrinsic_rewards

#: Prefix of the arrays of get_state() that have a row for each live row.
_ROWS = "rows/"


class ReplayBuffer:
    """The newest steps of any number of interleaved episodes, each frame stored once.

    Rows replace each other in order of arrival, whatever environment they come from. Draws are
    uniform over all steps whose stack is complete, with replacement; the last steps of every
    episode are among them. All methods may be called from several threads.
    """

    #: How draws are made; a saved buffer is restored into one of the same kind.
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
    ) -> None:
        """Allocates address space; memory is taken as rows are written.

        Args:
            capacity: Rows, that is frames; > frame_stack. An episode of T steps takes T + 1.
            observation_space: Of one frame: Box, Discrete, MultiDiscrete, MultiBinary, or Dict or
                Tuple of them.
            action_space: The same kinds.
            frame_stack: Frames of the observations that are given out; > 1 for a Box of shape [D],
                [C, H, W] or [H, W, C] only.
            seed: Of the draws; None: different ones each time.
            storage_path: Folder of a local disk that holds the frames instead of memory. The file
                is deleted with the process; it is no means of saving, see `save`.

        Raises:
            ValueError: If ``capacity`` is too small or a space cannot be stored.
            OSError: If ``storage_path`` has no room.
        """
        self._frames = Frames(observation_space, frame_stack)
        self._actions = Layout(action_space, "action_space")
        if not frame_stack < capacity < 2**31:
            raise ValueError(
                f"capacity must be > frame_stack ({frame_stack}) and < 2**31; got {capacity}."
            )
        self.capacity, self.frame_stack = int(capacity), frame_stack
        self._rows = RowStorage(
            self.capacity, self._frames.stored, self._actions.leaves, storage_path
        )
        self._ring = Ring(self._rows, frame_stack)
        self._generator = np.random.default_rng(seed)
        self._lock = threading.RLock()
        #: Steps added since the buffer was made.
        self.num_added = 0

    def __len__(self) -> int:
        """Number of steps that may be drawn."""
        return self._ring.num_drawable

    @property
    def num_rows(self) -> int:
        """Rows in use, at most ``capacity``."""
        return self._ring.num_rows

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, with those of a ``storage_path``, were every row in use."""
        return sum(array.nbytes for array in self._rows.arrays().values())

    def add(
        self,
        episodes: Sequence[SingleAgentEpisode],
        intrinsic_rewards: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Appends chunks of episodes; the cost depends on their own steps alone.

        A chunk continues the one of the same ``id_`` that ended at its ``t_started``. Where there
        is none, or its last row is gone, the chunk begins anew with the frames of lookback that it
        brings; steps whose stack they do not complete are kept as later frames of other stacks, and
        are not drawn.

        Args:
            episodes: Numpy-backed chunks of single frames, as `rlssl.rollouts` cuts them; those
                without a step are ignored.
            intrinsic_rewards: [T] for every chunk. Once given, always given.

        Raises:
            ValueError: If anything does not fit the spaces, a reward is not finite (the message
                names episode and index), or intrinsic rewards come for some steps and not for
                others. Nothing is added then.
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

        With k, at most ``n_step``, the number of steps until the episode ends (or, of an unfinished
        one, until its newest observation)::

            REWARDS = sum_{i<k} gamma^i r_{t+i}        NEXT_OBS = o_{t+k}
            discounts = gamma^k, 0 if the k-th step terminated

        so that ``REWARDS + discounts * V(NEXT_OBS)`` is the target in every case.

        Args:
            batch_size: B >= 1.
            n_step: n >= 1.
            gamma: Discount of a step, in [0, 1].
            beta: Not used by uniform draws, whose weights are 1.
            sequence_length: T >= 1: every draw is followed by the next T - 1 steps of its episode.
                None: no time axis.

        Returns:
            Arrays [B, ...], or [B, T, ...], by name: OBS, NEXT_OBS (stacked), ACTIONS, REWARDS
            (float32), TERMINATEDS, TRUNCATEDS (bool) of `Columns`; ``n_step`` (k, int32),
            ``discounts`` (float32); ``intrinsic_rewards`` (float32, summed like REWARDS) where they
            were added. With T, ``mask`` [B, T], bool: False, and zero in all other arrays, behind
            the last step. Always [B]: ``weights`` (float32) and ``indices`` (int64), which name the
            (first) step to `update_priorities`.

        Raises:
            ValueError: If an argument is out of range or nothing can be drawn.
        """
        del beta
        self._check_sample(batch_size, n_step, gamma, sequence_length)
        with self._lock:
            self._check_not_empty()
            slots = self._ring.draw(self._generator, batch_size)
            batch = self._gather(slots, n_step, gamma, sequence_length)
            return batch | {"weights": np.ones(batch_size, np.float32)}

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """Without effect: uniform draws know no priorities. The arguments are checked.

        Raises:
            ValueError: As for `PrioritizedReplayBuffer.update_priorities`.
        """
        with self._lock:
            self._check_priorities(indices, priorities)

    def get_state(self) -> dict[str, np.ndarray]:
        """A copy of everything that later calls depend on, as a flat dict of arrays.

        As large as the rows in use; `save` writes them piece by piece instead.
        """
        with self._lock:
            serials = np.arange(self._ring.oldest, self._ring.next)
            slots = self._ring.slots(serials)
            rows = {_ROWS + name: array[slots] for name, array in self._arrays().items()}
            return self._head() | rows

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_state` gave: the next batches are the same, bit for bit.

        Raises:
            ValueError: If it is of a buffer of other capacity, spaces, frame stack or kind; the
                message says which.
        """
        with self._lock:
            self._check_description(json.loads(str(state["description"])))
            rows = {
                name.removeprefix(_ROWS): array
                for name, array in state.items()
                if name.startswith(_ROWS)
            }
            self._prepare(state, has_intrinsic_rewards(rows))
            slots = self._ring.slots(np.arange(self._ring.oldest, self._ring.next))
            for name, array in self._arrays().items():
                array[slots] = rows[name]
            self._finish()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the state into ``folder``, in compressed pieces with checksums.

        What is there is replaced when all is written; a process killed on the way leaves it as it
        was. Takes memory for a few pieces of 16 MiB.
        """
        with self._lock:
            saving.write(
                Path(folder),
                self._description(),
                self._head(),
                self._arrays(),
                (self._ring.oldest, self._ring.next),
            )

    def restore(self, folder: str | os.PathLike[str]) -> None:
        """Reads what `save` wrote: the next batches are the same, bit for bit.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If a file is missing or changed, or the buffer is another one; see
                `set_state`. The buffer is as it was then.
        """
        with self._lock:
            saved = saving.Saved(Path(folder))
            self._check_description(saved.description)
            saved.verify()
            self._prepare(saved.head(), has_intrinsic_rewards(dict.fromkeys(saved.row_names)))
            saved.read_rows(self._arrays())
            self._finish()

    def _checked(
        self, episodes: Sequence[SingleAgentEpisode], intrinsic_rewards: Sequence[Any] | None
    ) -> list[Chunk]:
        if intrinsic_rewards is not None and len(intrinsic_rewards) != len(episodes):
            raise ValueError(
                f"intrinsic_rewards must be one array an episode, {len(episodes)}; got "
                f"{len(intrinsic_rewards)}."
            )
        given = intrinsic_rewards is not None
        if self.num_added and given != (self._rows.intrinsic_rewards is not None):
            raise ValueError(
                f"intrinsic_rewards were {'not ' if given else ''}given for the steps before; give "
                "them for all steps or for none."
            )
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
        intrinsic, given = rows.intrinsic_rewards, chunk.intrinsic_rewards
        if intrinsic is not None and given is not None:
            rows.write_steps(intrinsic, placed.first_step, placed.first_row, given)
        last = placed.last_step % self.capacity
        rows.terminated[last], rows.truncated[last] = chunk.terminated, chunk.truncated
        self.num_added += length
        self._changed(placed.lost, placed.gained)

    def _changed(self, lost: np.ndarray, gained: np.ndarray) -> None:
        """Called with the slots that can no longer be drawn and, then, those that newly can."""

    def gather(
        self, indices: np.ndarray, *, n_step: int = 1, gamma: float = 0.99
    ) -> dict[str, Any]:
        """The transitions of steps that were drawn before, as `sample` gives them.

        Args:
            indices: [B], from a batch.
            n_step: As for `sample`.
            gamma: As for `sample`.

        Raises:
            ValueError: If one of them has been replaced since.
        """
        with self._lock:
            if np.any(indices < self._ring.oldest):
                raise ValueError(f"steps {indices[indices < self._ring.oldest]} are gone.")
            return self._gather(self._ring.slots(indices), n_step, gamma, None)

    def _gather(
        self, slots: np.ndarray, n_step: int, gamma: float, sequence_length: int | None
    ) -> dict[str, Any]:
        """The batch of the steps at ``slots`` [B], without weights."""
        indices = self._ring.serials(slots)
        mask = None
        if sequence_length is not None:
            slots, mask = self._sequences(slots, sequence_length)
        window = n_step_window(self._rows, self._ring, slots, n_step, gamma)
        batch = {
            Columns.OBS: self._observations(slots),
            Columns.NEXT_OBS: self._observations(window.last),
            Columns.ACTIONS: [leaf[slots] for leaf in self._rows.actions],
            Columns.REWARDS: [window.rewards],
            Columns.TERMINATEDS: [window.terminated],
            Columns.TRUNCATEDS: [window.truncated],
            "n_step": [window.num_steps],
            "discounts": [(gamma**window.num_steps * ~window.terminated).astype(np.float32)],
        }
        if window.intrinsic_rewards is not None:
            batch[Columns.INTRINSIC_REWARDS] = [window.intrinsic_rewards]
        if mask is not None:
            for leaf in (leaf for leaves in batch.values() for leaf in leaves):
                leaf[~mask] = 0
            batch["mask"] = [mask]
        nested = {Columns.OBS: self._frames.layout, Columns.NEXT_OBS: self._frames.layout}
        nested[Columns.ACTIONS] = self._actions
        return {"indices": indices} | {
            name: nested[name].unflatten(leaves) if name in nested else leaves[0]
            for name, leaves in batch.items()
        }

    def _sequences(self, slots: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the steps from each row on, [B, length], and whether there is a step."""
        steps = [slots]
        for _ in range(length - 1):
            steps.append(self._ring.following(steps[-1]))
        sequences = np.stack(steps, axis=1)
        mask = self._rows.next_offset[sequences] > 0
        # Behind the end, any row will do; its first is one whose stack is complete.
        return np.where(mask, sequences, slots[:, None]), mask

    def _observations(self, slots: np.ndarray) -> list[np.ndarray]:
        return self._frames.stack(self._rows.observations, self._ring.stacks(slots))

    def _arrays(self) -> dict[str, np.ndarray]:
        """All arrays with a row for each row, by name."""
        return self._rows.arrays()

    def _description(self) -> dict[str, Any]:
        """What two buffers must have in common to take each other's state; plain JSON."""
        return {
            "kind": self.kind,
            "capacity": self.capacity,
            "frame_stack": self.frame_stack,
            "observations": _plain(self._frames.stored),
            "actions": _plain(self._actions.leaves),
        }

    def _head(self) -> dict[str, np.ndarray]:
        """The state without the rows."""
        opened = self._ring.open
        return {
            "description": np.array(json.dumps(self._description())),
            "serials": np.array([self._ring.oldest, self._ring.next], np.int64),
            "num_added": np.array(self.num_added, np.int64),
            "generator": generator_state(self._generator),
            "open_ids": np.array(list(opened), np.str_),
            "open_at": np.array(list(opened.values()), np.int64).reshape(-1, 2),
        }

    def _check_description(self, other: Mapping[str, Any]) -> None:
        for key, own in self._description().items():
            if other.get(key) != own:
                raise ValueError(
                    f"the saved replay has {key} {other.get(key)}, this one has {own}; build it "
                    "with the same capacity, spaces, frame_stack and alpha to restore it."
                )

    def _prepare(self, head: Mapping[str, np.ndarray], with_intrinsic_rewards: bool) -> None:
        """Takes over all but the rows."""
        self._ring.clear()
        self._ring.oldest, self._ring.next = (int(serial) for serial in head["serials"])
        self._ring.open = {
            str(key): (int(serial), int(step))
            for key, (serial, step) in zip(head["open_ids"], head["open_at"], strict=True)
        }
        self.num_added = int(head["num_added"])
        set_generator_state(self._generator, head["generator"])
        self._rows.intrinsic_rewards = None
        if with_intrinsic_rewards:
            self._rows.allocate_intrinsic_rewards()

    def _finish(self) -> None:
        """Called when the rows have been taken over, too."""
        self._ring.num_drawable = int(np.count_nonzero(self._rows.drawable))

    def _check_sample(
        self, batch_size: int, n_step: int, gamma: float, sequence_length: int | None
    ) -> None:
        counts = {"batch_size": batch_size, "n_step": n_step, "sequence_length": sequence_length}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1; got {value}.")
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1]; got {gamma}.")

    def _check_not_empty(self) -> None:
        if not len(self):
            raise ValueError(
                f"nothing can be drawn: of {self.num_added} steps added, the buffer holds none "
                "whose stack is complete. Add episodes before sampling."
            )

    def _check_priorities(
        self, indices: np.ndarray, priorities: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        serials = np.asarray(indices)
        values = np.asarray(priorities, np.float64)
        if serials.ndim != 1 or serials.shape != values.shape or serials.dtype.kind not in "iu":
            raise ValueError(
                f"indices must be integers [B] and priorities [B]; got {serials.dtype} "
                f"{serials.shape} and {values.shape}."
            )
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0.0)))
        if len(wrong):
            raise ValueError(
                f"priorities must be finite and >= 0; got {values[wrong[0]]} at position "
                f"{wrong[0]}, for index {serials[wrong[0]]}."
            )
        unknown = np.flatnonzero((serials < 0) | (serials >= self._ring.next))
        if len(unknown):
            raise ValueError(
                f"index {serials[unknown[0]]} was never given out; pass the 'indices' of a batch."
            )
        return serials, values


def _plain(leaves: Sequence[Leaf]) -> list[Any]:
    return [[list(leaf.shape), leaf.dtype.str] for leaf in leaves]
