"""Which row belongs where: a ring of rows in order of arrival, linked into episodes."""

from dataclasses import dataclass

import numpy as np

from rlssl.replay.storage import RowStorage

#: Rows whose episode may still go on are looked through when there are this many more of them.
_PRUNE_AT = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the rows of a chunk go. Serials count rows from the first one ever added."""

    # Serial of the first new row; the new rows follow each other.
    first_row: int
    # Frames of the chunk to skip: those that are there already.
    skipped_frames: int
    # Serials of the rows of the first and the last step.
    first_step: int
    last_step: int
    # Slots that stopped being drawable, and then slots that began to be.
    lost: np.ndarray
    gained: np.ndarray


class Ring:
    """The serials, the links between rows, and what may be drawn.

    The row with serial number s lies at slot ``s % capacity``; a new row replaces the oldest. A row
    holds one frame and the step taken from it. The last row of an episode, and for the time being
    that of an unfinished one, holds a frame alone. ``next_offset`` leads from a row to the next one
    of its episode (0: there is none), ``previous_offset`` to the one before.
    """

    def __init__(self, rows: RowStorage, frame_stack: int) -> None:
        """Starts empty.

        Args:
            rows: The storage; its links and flags are written here.
            frame_stack: Frames of a stack.
        """
        self._rows, self._before = rows, frame_stack - 1
        self.capacity = rows.capacity
        self.clear()

    def clear(self) -> None:
        """Forgets all rows."""
        # Serials of the live rows: oldest to next, exclusively.
        self.oldest = self.next = 0
        # Rows in ``drawable``.
        self.num_drawable = 0
        self._rows.drawable[:] = False
        # Episode -> serial of its last row, and the step at which it goes on.
        self.open: dict[str, tuple[int, int]] = {}
        self._prune_at = _PRUNE_AT

    @property
    def num_rows(self) -> int:
        """Live rows."""
        return self.next - self.oldest

    @property
    def longest_piece(self) -> int:
        """Steps that `place` takes at once: the rows before them that they need stay alive."""
        return self.capacity - self._before - 1

    def place(
        self, episode_id: str, t_started: int, before: int, length: int, *, ends: bool
    ) -> Placement:
        """Makes room for a chunk and links its rows.

        Args:
            episode_id: A chunk of the same episode that ended at ``t_started`` is continued.
            t_started: Step of the episode at which the chunk starts.
            before: Frames that it brings from before it, where it has to begin anew.
            length: Steps T, 1 to `longest_piece`.
            ends: Whether the episode ends with it.

        Returns:
            Where to write.
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
        # The stack of step i needs min(t_started + i, frame_stack - 1) frames; known + i are here.
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
        """Where rows lie; ``serials`` [N] must be live."""
        return serials % self.capacity

    def serials(self, slots: np.ndarray) -> np.ndarray:
        """The serials [N] of live rows."""
        return self.oldest + (slots - self.oldest) % self.capacity

    def following(self, slots: np.ndarray) -> np.ndarray:
        """The next row of the episode of each row; the row itself where there is none."""
        return (slots + self._rows.next_offset[slots]) % self.capacity

    def stacks(self, slots: np.ndarray) -> np.ndarray:
        """The rows of each row's stack, [..., frame_stack], oldest first.

        Before an episode's start they repeat its first row.
        """
        stack = np.empty((*slots.shape, self._before + 1), np.int64)
        stack[..., -1] = slots
        for column in range(self._before - 1, -1, -1):
            slots = (slots - self._rows.previous_offset[slots]) % self.capacity
            stack[..., column] = slots
        return stack

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Draws slots uniformly from the drawable rows, with replacement.

        Uniform among live rows until enough are drawable: a draw that is kept is as likely to be
        one drawable row as another. Where few are, they are listed first.
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
        """The serial of the row that the chunk continues, if it survives the chunk's rows."""
        found = self.open.pop(episode_id, None)
        if found is None:
            return None
        serial, step = found
        alive = serial >= max(self.oldest, self.next + length - self.capacity)
        return serial if alive and step == t_started else None

    def _known_before(self, serial: int) -> int:
        """How many of the rows before ``serial`` that its stack may need are alive."""
        known = 0
        while known < self._before:
            offset = int(self._rows.previous_offset[serial % self.capacity])
            serial -= offset
            if offset == 0 or serial < self.oldest:
                break
            known += 1
        return known

    def _evict(self, count: int) -> np.ndarray:
        """Makes room for ``count`` rows; returns the slots that are no longer drawable."""
        oldest = max(self.oldest, self.next + count - self.capacity)
        slots = np.arange(self.oldest, oldest) % self.capacity
        self.oldest = oldest
        if not len(slots):
            return slots
        drawable = self._rows.drawable
        lost = []
        # A stack that has lost one frame is lost: those of the rows just behind the evicted, too.
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
        """Forgets unfinished episodes whose last row is gone, now and then."""
        if len(self.open) >= self._prune_at:
            self.open = {key: at for key, at in self.open.items() if at[0] >= self.oldest}
            self._prune_at = 2 * len(self.open) + _PRUNE_AT
