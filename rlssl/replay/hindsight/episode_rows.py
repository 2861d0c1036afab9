"""Which rows of a replay buffer belong to one episode, for draws within episodes."""

import bisect
from array import array

import numpy as np

from rlssl.replay.ring import Placement, Ring
from rlssl.replay.storage import RowStorage

#: Bytes of a row in these tables.
BYTES = 8 + 4 + 8

#: Episodes without a live row are removed each time this many more episodes are known.
_PRUNE_AT = 1024


class EpisodeRows:
    """Finds a row of an episode by its place in the episode, without walking along the episode.

    The tables follow from the links of the rows. They are not saved.
    """

    def __init__(self, rows: RowStorage, ring: Ring) -> None:
        """Starts empty.

        Args:
            rows: The storage.
            ring: The links.
        """
        self._rows, self._ring = rows, ring
        # Of each slot: the number of its episode, and its place in `_serials` of this episode.
        self._episode = np.zeros(rows.capacity, np.int64)
        self._place = np.zeros(rows.capacity, np.int32)
        self._clear()

    @property
    def nbytes(self) -> int:
        """Bytes with every row in use."""
        return BYTES * self._rows.capacity

    def added(self, placed: Placement) -> None:
        """Notes the rows of a new chunk, which are the newest rows of the ring."""
        is_continued = placed.first_step < placed.first_row
        if is_continued:
            episode = int(self._episode[placed.first_step % self._rows.capacity])
        else:
            episode = self._begin()
        self._append(episode, np.arange(placed.first_row, self._ring.next))

    def rebuild(self) -> None:
        """Finds the episodes of all live rows, after they were restored."""
        self._clear()
        ring, rows = self._ring, self._rows
        serials = np.arange(ring.oldest, ring.next)
        before = serials - rows.previous_offset[ring.slots(serials)]
        starts = (before == serials) | (before < ring.oldest)
        for serial, earlier, is_start in zip(
            serials.tolist(), before.tolist(), starts.tolist(), strict=True
        ):
            slot = earlier % rows.capacity
            episode = self._begin() if is_start else int(self._episode[slot])
            self._append(episode, np.array([serial]))

    def places(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The places of rows in their episodes.

        Args:
            slots: [N], live rows.

        Returns:
            [N] int64 each: the place of the oldest live row of each row's episode, of the row, and
            of the newest row of its episode.
        """
        found = [self._serials[number] for number in self._episode[slots].tolist()]
        oldest = self._ring.oldest
        first = [0 if each[0] >= oldest else bisect.bisect_left(each, oldest) for each in found]
        last = [len(each) - 1 for each in found]
        return np.array(first), self._place[slots].astype(np.int64), np.array(last)

    def slots_at(self, slots: np.ndarray, places: np.ndarray) -> np.ndarray:
        """[N], the slots of the rows at ``places`` [N] in the episodes of the rows at ``slots``."""
        numbers = self._episode[slots].tolist()
        pairs = zip(numbers, places.tolist(), strict=True)
        return self._ring.slots(np.array([self._serials[it][place] for it, place in pairs]))

    def _clear(self) -> None:
        # Number of an episode -> the serials of its rows, in order; of dead rows, too.
        self._serials: dict[int, array[int]] = {}
        self._num_episodes, self._prune_at = 0, _PRUNE_AT

    def _begin(self) -> int:
        if len(self._serials) >= self._prune_at:
            self._prune()
        number = self._num_episodes
        self._num_episodes += 1
        self._serials[number] = array("q")
        return number

    def _append(self, episode: int, serials: np.ndarray) -> None:
        known, slots = self._serials[episode], self._ring.slots(serials)
        self._episode[slots] = episode
        self._place[slots] = np.arange(len(known), len(known) + len(slots))
        known.frombytes(serials.astype(np.int64).tobytes())

    def _prune(self) -> None:
        oldest = self._ring.oldest
        alive = {key: known for key, known in self._serials.items() if known[-1] >= oldest}
        self._serials, self._prune_at = alive, 2 * len(alive) + _PRUNE_AT
