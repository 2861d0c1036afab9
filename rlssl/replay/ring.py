"""A ring buffer of rows in order of arrival, linked into episodes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlssl.replay.storage import RowStorage

#: Open episodes whose last row is gone are removed each time this many more episodes are open.
_PRUNE_AT = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """Where to write a chunk. Serial numbers count rows, from the first row ever added."""

    # Serial of the first new row; the other new rows follow it.
    first_row: int
    # Number of frames of the chunk to skip, because they are stored already.
    skipped_frames: int
    # Serials of the rows of the first and the last step.
    first_step: int
    last_step: int
    # Slots that can no longer be drawn, and slots that can be drawn from now on.
    lost: np.ndarray
    gained: np.ndarray


class Ring:
    """Manages serial numbers, links between rows, and which rows can be drawn.

    The row with serial number s is stored at slot ``s % capacity``; a new row replaces the oldest
    row. A row has one frame and the step taken from it. The last row of an episode has only a
    frame; in an unfinished episode, this is its newest row. ``next_offset`` is the distance from a
    row to the next row of its episode, ``previous_offset`` the distance to the previous row; 0:
    there is no such row.
    """

    def __init__(self, rows: RowStorage, frame_stack: int) -> None:
        """Starts empty.

        Args:
            rows: The storage; this class writes its links and flags.
            frame_stack: Frames per stack.
        """
        self._rows, self._before = rows, frame_stack - 1
        self.capacity = rows.capacity
        self.clear()

    def clear(self) -> None:
        """Removes all rows."""
        # Serials of the live rows: from oldest to next - 1.
        self.oldest = self.next = 0
        # Number of rows with ``drawable``.
        self.num_drawable = 0
        self._rows.drawable[:] = False
        # Id of an unfinished episode -> serial of its last row, and its next step.
        self.open: dict[str, tuple[int, int]] = {}
        self._prune_at = _PRUNE_AT

    def get_state(self) -> dict[str, np.ndarray]:
        """Which rows are live, and the unfinished episodes; the links are in the rows."""
        return {
            "serials": np.array([self.oldest, self.next], np.int64),
            "open_ids": np.array(list(self.open), np.str_),
            "open_at": np.array(list(self.open.values()), np.int64).reshape(-1, 2),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `get_state` gave; the rows and `num_drawable` follow."""
        self.clear()
        self.oldest, self.next = (int(serial) for serial in state["serials"])
        self.open = {
            str(key): (int(serial), int(step))
            for key, (serial, step) in zip(state["open_ids"], state["open_at"], strict=True)
        }

    @property
    def num_rows(self) -> int:
        """Number of live rows."""
        return self.next - self.oldest

    @property
    def longest_piece(self) -> int:
        """Most steps that `place` accepts: earlier rows that these steps need must stay alive."""
        return self.capacity - self._before - 1

    def place(
        self, episode_id: str, t_started: int, before: int, length: int, *, ends: bool
    ) -> Placement:
        """Makes room for a chunk and links its rows.

        Args:
            episode_id: A chunk of the same episode that ended at ``t_started`` is continued.
            t_started: Step of the episode at which the chunk starts.
            before: Number of lookback frames in the chunk, used if it does not continue a chunk.
            length: Number of steps T, 1 to `longest_piece`.
            ends: Whether the episode ends with the chunk.

        Returns:
            Where to write the chunk.
        """
        reserved = self._reserved(episode_id, t_started, length)
        if reserved is None:
            new_rows = before + 1 + length
            lost = self._evict(new_rows)
            first_row, first_step = self.next, self.next + before
            skipped, known = 0, before
        else:
            new_rows = length
            lost = self._evict(new_rows)
            first_row, first_step = self.next, reserved
            skipped, known = before + 1, self._known_before(reserved)
        self.next += new_rows
        self._link(first_row, new_rows, reserved)
        # The stack of step i needs min(t_started + i, frame_stack - 1) earlier frames; known + i
        # earlier frames are stored.
        complete = known >= min(t_started, self._before)
        first_drawable = 0 if complete else self._before - known
        gained = self._step_slots(first_step, first_row, length)[first_drawable:]
        self._rows.drawable[gained] = True
        self.num_drawable += len(gained)
        if not ends:
            self.open[episode_id] = (self.next - 1, t_started + length)
            self._prune()
        last_step = first_step if length == 1 else self.next - 2
        return Placement(first_row, skipped, first_step, last_step, lost, gained)

    def slots(self, serials: np.ndarray) -> np.ndarray:
        """[N], the slots of live rows with serials [N]."""
        return serials % self.capacity

    def serials(self, slots: np.ndarray) -> np.ndarray:
        """[N], the serials of live rows at slots [N]."""
        return self.oldest + (slots - self.oldest) % self.capacity

    def following(self, slots: np.ndarray) -> np.ndarray:
        """Slots of the next row in each row's episode; the row itself if there is no next row."""
        return (slots + self._rows.next_offset[slots]) % self.capacity

    def stacks(self, slots: np.ndarray) -> np.ndarray:
        """[..., frame_stack], slots of each row's stack, oldest first.

        Near the start of an episode, stacks repeat its first row.
        """
        stack = np.empty((*slots.shape, self._before + 1), np.int64)
        stack[..., -1] = slots
        for column in range(self._before - 1, -1, -1):
            slots = (slots - self._rows.previous_offset[slots]) % self.capacity
            stack[..., column] = slots
        return stack

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Draws slots uniformly from the drawable rows, with replacement.

        Rejection sampling: draws live rows uniformly and keeps the drawable ones. If few rows are
        drawable, it draws from a list of them instead.
        """
        live = self.num_rows
        if self.num_drawable * 4 < live:
            drawable = np.flatnonzero(self._rows.drawable)
            return drawable[generator.integers(len(drawable), size=count)]
        drawn = np.empty(0, np.int64)
        while len(drawn) < count:
            tries = 8 + (count - len(drawn)) * live // self.num_drawable
            slots = self.slots(generator.integers(self.oldest, self.next, tries))
            drawn = np.concatenate([drawn, slots[self._rows.drawable[slots]]])
        return drawn[:count]

    def _reserved(self, episode_id: str, t_started: int, length: int) -> int | None:
        """Serial of the row that the chunk continues; None if none, or if it will be replaced."""
        found = self.open.pop(episode_id, None)
        if found is None:
            return None
        serial, step = found
        alive = serial >= max(self.oldest, self.next + length - self.capacity)
        return serial if alive and step == t_started else None

    def _known_before(self, serial: int) -> int:
        """Number of live rows before ``serial`` in its episode, at most those of a stack."""
        known = 0
        while known < self._before:
            offset = int(self._rows.previous_offset[serial % self.capacity])
            serial -= offset
            if offset == 0 or serial < self.oldest:
                break
            known += 1
        return known

    def _evict(self, count: int) -> np.ndarray:
        """Makes room for ``count`` rows; returns the slots that can no longer be drawn."""
        oldest = max(self.oldest, self.next + count - self.capacity)
        slots = np.arange(self.oldest, oldest) % self.capacity
        self.oldest = oldest
        if not len(slots):
            return slots
        drawable = self._rows.drawable
        lost = []
        # Rows shortly after an evicted row lose a frame of their stack: they are lost too.
        for step in range(self._before + 1):
            if step:
                slots = self.following(slots)
            hit = slots[drawable[slots]]
            drawable[hit] = False
            self.num_drawable -= len(hit)
            lost.append(hit)
        return lost[0] if len(lost) == 1 else np.concatenate(lost)

    def _link(self, first: int, count: int, reserved: int | None) -> None:
        rows = self._rows
        rows.fill(rows.next_offset, first, count, 1)
        rows.fill(rows.previous_offset, first, count, 1)
        rows.fill(rows.terminated, first, count, False)
        rows.fill(rows.truncated, first, count, False)
        rows.next_offset[(first + count - 1) % self.capacity] = 0
        offset = 0 if reserved is None else first - reserved
        rows.previous_offset[first % self.capacity] = offset
        if reserved is not None:
            rows.next_offset[reserved % self.capacity] = offset

    def _step_slots(self, first_step: int, first_row: int, length: int) -> np.ndarray:
        if first_step >= first_row:
            return np.arange(first_step, first_step + length) % self.capacity
        slots = np.arange(first_row - 1, first_row - 1 + length) % self.capacity
        slots[0] = first_step % self.capacity
        return slots

    def _prune(self) -> None:
        """Removes unfinished episodes whose last row was replaced, if many are open."""
        if len(self.open) >= self._prune_at:
            self.open = {key: at for key, at in self.open.items() if at[0] >= self.oldest}
            self._prune_at = 2 * len(self.open) + _PRUNE_AT
