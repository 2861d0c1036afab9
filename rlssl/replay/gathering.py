"""Reads batches from the rows of a replay buffer: transitions, sequences and windows."""

from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns

from rlssl.replay.frames import Frames
from rlssl.replay.hindsight.relabeling import RELABELED, Goals
from rlssl.replay.n_step import n_step_window
from rlssl.replay.ring import Ring
from rlssl.replay.storage import RowStorage
from rlssl.replay.windows import sequences_from, steps_of, windows_around
from rlssl.space_layout import Layout


class Gatherer:
    """Makes arrays of a batch from rows; `ReplayBuffer` says what they hold."""

    def __init__(self, frames: Frames, actions: Layout, rows: RowStorage, ring: Ring) -> None:
        """Reads the rows of one buffer.

        Args:
            frames: The format of observations.
            actions: The leaves of an action.
            rows: The storage.
            ring: The links.
        """
        self._frames, self._actions, self._rows, self._ring = frames, actions, rows, ring

    def transitions(
        self,
        slots: np.ndarray,
        n_step: int,
        gamma: float,
        sequence_length: int | None = None,
        goals: Goals | None = None,
    ) -> dict[str, Any]:
        """The batch of the steps at ``slots`` [B], without weights; see `ReplayBuffer.sample`.

        Args:
            slots: [B].
            n_step: See `ReplayBuffer.sample`.
            gamma: See `ReplayBuffer.sample`.
            sequence_length: See `ReplayBuffer.sample`.
            goals: Goals of the steps; None: as they were sampled.
        """
        indices = self._ring.serials(slots)
        mask = None
        if sequence_length is not None:
            slots, mask = sequences_from(self._rows, self._ring, slots, sequence_length)
            if goals is not None:
                mask = self._until_termination(slots, mask, goals)
        window = n_step_window(self._rows, self._ring, slots, n_step, gamma, goals)
        batch = {
            Columns.OBS: self._observations(slots, goals),
            Columns.NEXT_OBS: self._observations(window.last, goals),
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
        batch |= self._rows.identity_at(slots)
        if goals is not None:
            batch[RELABELED] = [goals.is_relabeled]
        return {"indices": indices} | {
            name: self._nested(name, leaves) for name, leaves in batch.items()
        }

    def windows(
        self, slots: np.ndarray, before: int, after: int, goals: Goals | None = None
    ) -> dict[str, Any]:
        """The rows around the steps at ``slots`` [B]; see `ReplayBuffer.windows`."""
        places = windows_around(self._rows, self._ring, slots, before, after)
        columns = steps_of(self._rows, places, before)
        if goals is not None:
            outcomes = goals.outcomes(places.slots, self._ring.following(places.slots))
            has_step = places.has_step
            columns[Columns.REWARDS] = [np.where(has_step, outcomes.rewards, np.float32(0))]
            columns[Columns.TERMINATEDS] = [has_step & outcomes.terminated]
        columns[Columns.OBS] = self._observations(places.slots, goals)
        found = {name: self._nested(name, leaves) for name, leaves in columns.items()}
        return {**found, "valid": places.valid}

    def _observations(self, slots: np.ndarray, goals: Goals | None) -> list[np.ndarray]:
        leaves = self._frames.stack(self._rows.observations, self._ring.stacks(slots))
        return leaves if goals is None else goals.write_into(leaves)

    def _until_termination(self, slots: np.ndarray, mask: np.ndarray, goals: Goals) -> np.ndarray:
        """[B, T], the mask of sequences [B, T] that end at the first termination."""
        ended = mask & goals.outcomes(slots, self._ring.following(slots)).terminated
        ended_before = np.cumsum(ended, axis=1) - ended > 0
        return mask & ~ended_before

    def _nested(self, name: str, leaves: list[np.ndarray]) -> Any:
        if name in (Columns.OBS, Columns.NEXT_OBS):
            return self._frames.layout.unflatten(leaves)
        return self._actions.unflatten(leaves) if name == Columns.ACTIONS else leaves[0]
