"""Prioritised replay: draws in proportion to what was learned from a step."""

import os
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.replay.buffer import ReplayBuffer
from rlssl.replay.sum_tree import SumTree


class PrioritizedReplayBuffer(ReplayBuffer):
    """A replay buffer that draws step i with probability p_i^alpha / sum_j p_j^alpha.

    New steps get the largest priority that was ever set, 1 at first. The importance weights are
    ``(N P(i))^-beta`` over their maximum in the batch, N the number of drawable steps.

    Source:
        Schaul et al. 2016, arXiv:1511.05952, proportional variant. As in the paper, a batch takes
        one draw from each of B equal parts of the total. Differs: the paper adds a small constant
        to every priority, here those below ``min_priority`` are raised to it.
    """

    kind = "prioritized"

    def __init__(
        self,
        capacity: int,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        frame_stack: int = 1,
        seed: int | None = None,
        alpha: float = 0.5,
        min_priority: float = 1e-6,
        storage_path: str | os.PathLike[str] | None = None,
    ) -> None:
        """As for `ReplayBuffer`.

        Args:
            capacity: See `ReplayBuffer`.
            observation_space: See `ReplayBuffer`.
            action_space: See `ReplayBuffer`.
            frame_stack: See `ReplayBuffer`.
            seed: See `ReplayBuffer`.
            alpha: How much priorities count, in [0, 1]; 0: uniform draws. Rainbow: 0.5.
            min_priority: Lower bound of every priority; > 0, so that each step keeps a chance.
            storage_path: See `ReplayBuffer`.

        Raises:
            ValueError: See `ReplayBuffer`, or if ``alpha`` or ``min_priority`` is out of range.
        """
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must be in [0, 1]; got {alpha}.")
        if not 0.0 < min_priority <= 1.0:
            raise ValueError(f"min_priority must be in (0, 1]; got {min_priority}.")
        super().__init__(
            capacity,
            observation_space,
            action_space,
            frame_stack=frame_stack,
            seed=seed,
            storage_path=storage_path,
        )
        self.alpha, self.min_priority = alpha, min_priority
        #: The largest priority so far, which new steps get.
        self.max_priority = 1.0
        # Leaf j belongs to slot j and is 0 where the row cannot be drawn.
        self._tree = SumTree(self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, the tree's included."""
        return super().nbytes + self._tree.nbytes

    def sample(
        self,
        batch_size: int,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        beta: float | None = None,
        sequence_length: int | None = None,
        uniform: bool = False,
    ) -> dict[str, Any]:
        """Draws in proportion to priorities; what is returned is as for `ReplayBuffer.sample`.

        Args:
            batch_size: B >= 1.
            n_step: See `ReplayBuffer.sample`.
            gamma: See `ReplayBuffer.sample`.
            beta: Exponent of the importance weights, >= 0; see `annealed_beta`.
            sequence_length: See `ReplayBuffer.sample`; the first step's priority decides.
            uniform: Draw uniformly instead, for a loss that asks for it; ``beta`` is not needed
                and the weights are 1.

        Raises:
            ValueError: If an argument is missing or out of range, or nothing can be drawn.
        """
        if uniform:
            return super().sample(
                batch_size, n_step=n_step, gamma=gamma, sequence_length=sequence_length
            )
        if beta is None or not 0.0 <= beta < np.inf:
            raise ValueError(
                f"beta must be given to sample from a prioritised buffer, >= 0; got {beta}. "
                "rlssl.replay.annealed_beta computes it."
            )
        self._check_sample(batch_size, n_step, gamma, sequence_length)
        with self._lock:
            self._check_not_empty()
            slots = self._tree.draw(self._generator, batch_size)
            priorities = self._tree.leaves[slots]
            batch = self._gather(slots, n_step, gamma, sequence_length)
        # N and the total cancel: the largest weight of the batch is that of the least likely step.
        weights = (priorities.min() / priorities) ** beta
        return batch | {"weights": weights.astype(np.float32)}

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """Sets the priorities of drawn steps; those replaced since are ignored.

        Args:
            indices: [B], integers, of a batch. Of a step that is named twice, the last counts.
            priorities: [B], >= 0, of the RL loss alone: an absolute TD error, or a cross-entropy.

        Raises:
            ValueError: If a shape does not fit, an index was never given out, or a priority is
                negative or not finite; the message names the index. Nothing is set then.
        """
        with self._lock:
            serials, values = self._check_priorities(indices, priorities)
            alive = serials >= self._ring.oldest
            slots, values = self._ring.slots(serials[alive]), values[alive]
            drawable = self._rows.drawable[slots]
            slots, values = slots[drawable], np.maximum(values[drawable], self.min_priority)
            if len(slots):
                self._tree.set(slots, values**self.alpha)
                self.max_priority = max(self.max_priority, float(values.max()))

    def priorities(self, indices: np.ndarray) -> np.ndarray:
        """P(i) of steps, [B]: the probability of each to be drawn next; 0 for those replaced."""
        with self._lock:
            serials = np.asarray(indices)
            alive = (serials >= self._ring.oldest) & (serials < self._ring.next)
            values = np.where(alive, self._tree.leaves[self._ring.slots(serials)], 0.0)
            return values / self._tree.total()

    def _changed(self, lost: np.ndarray, gained: np.ndarray) -> None:
        self._tree.set(lost, 0.0)
        self._tree.set(gained, self.max_priority**self.alpha)

    def _arrays(self) -> dict[str, np.ndarray]:
        return super()._arrays() | {"priorities": self._tree.leaves}

    def _description(self) -> dict[str, Any]:
        return super()._description() | {"alpha": self.alpha}

    def _head(self) -> dict[str, np.ndarray]:
        return super()._head() | {"max_priority": np.array(self.max_priority)}

    def _prepare(self, head: Mapping[str, np.ndarray], with_intrinsic_rewards: bool) -> None:
        super()._prepare(head, with_intrinsic_rewards)
        self.max_priority = float(head["max_priority"])
        self._tree.leaves[:] = 0.0

    def _finish(self) -> None:
        super()._finish()
        self._tree.rebuild()


def annealed_beta(
    env_steps: float, *, start: float = 0.4, end: float = 1.0, anneal_env_steps: float
) -> float:
    """``start`` at env step 0, linear, ``end`` from ``anneal_env_steps`` on.

    Args:
        env_steps: Since the start of the run (agent steps x action repeat); >= 0.
        start: Beta at the start, no unit.
        end: Beta at last; 1 corrects the draws in full.
        anneal_env_steps: Env steps until then; > 0.

    Raises:
        ValueError: If ``env_steps`` is negative or ``anneal_env_steps`` is not positive.

    Source:
        Schaul et al. 2016, arXiv:1511.05952, section 3.4. Hessel et al. 2018, arXiv:1710.02298:
        from 0.4 to 1 over the run.
    """
    if env_steps < 0:
        raise ValueError(f"env_steps must be >= 0; got {env_steps}.")
    if anneal_env_steps <= 0:
        raise ValueError(f"anneal_env_steps must be > 0; got {anneal_env_steps}.")
    return start + (end - start) * min(env_steps / anneal_env_steps, 1.0)
