"""Prioritized replay: draws steps in proportion to their priorities, such as TD errors."""

import os
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.replay.buffer import ReplayBuffer
from rlssl.replay.checks import check_priorities, check_sample
from rlssl.replay.sum_tree import SumTree


class PrioritizedReplayBuffer(ReplayBuffer):
    """A replay buffer that draws step i with probability p_i^alpha / sum_j p_j^alpha.

    New steps get the largest priority so far, initially 1. The importance weights are
    ``(N P(i))^-beta`` divided by their maximum in the batch; N is the number of drawable steps.

    Source:
        Schaul et al. 2016, arXiv:1511.05952, proportional variant. As in the paper, the total is
        cut into B equal parts, and a batch has one draw from each. Differs: the paper adds a small
        constant to every priority; here priorities below ``min_priority`` are raised to it.

    Example:
        An episode of two steps whose priorities become 1 and 4:

        >>> from gymnasium.spaces import Box, Discrete
        >>> from ray.rllib.env.single_agent_episode import SingleAgentEpisode
        >>> episode = SingleAgentEpisode(
        ...     observations=[np.full(1, t, np.float32) for t in range(3)],
        ...     actions=[0, 1],
        ...     rewards=[1.0, 2.0],
        ...     len_lookback_buffer=0,
        ... ).to_numpy()
        >>> space, actions = Box(-9, 9, (1,), np.float32), Discrete(2)
        >>> buffer = PrioritizedReplayBuffer(100, space, actions, seed=0, alpha=1.0)
        >>> buffer.add([episode])
        >>> buffer.update_priorities(np.array([0, 1]), np.array([1.0, 4.0]))
        >>> buffer.priorities(np.array([0, 1]))
        array([0.2, 0.8])

        With beta = 1, the weights are proportional to 1 / P(i): 1 and 0.2 / 0.8 = 0.25.

        >>> batch = buffer.sample(5, beta=1.0)
        >>> batch["indices"].tolist(), batch["weights"].tolist()
        ([0, 1, 1, 1, 1], [1.0, 0.25, 0.25, 0.25, 0.25])
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
        identity: bool = False,
        **hindsight: Any,
    ) -> None:
        """Creates an empty buffer; see `ReplayBuffer`.

        Args:
            capacity: See `ReplayBuffer`.
            observation_space: See `ReplayBuffer`.
            action_space: See `ReplayBuffer`.
            frame_stack: See `ReplayBuffer`.
            seed: See `ReplayBuffer`.
            alpha: Exponent of the priorities, in [0, 1]; 0: uniform draws. Rainbow: 0.5.
            min_priority: Lower bound of priorities; > 0, so that every step can be drawn.
            storage_path: See `ReplayBuffer`.
            identity: See `ReplayBuffer`.
            **hindsight: ``relabel`` and ``goal_functions`` of `ReplayBuffer`. A step has one
                priority, whatever its goals were.

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
            identity=identity,
            **hindsight,
        )
        self.alpha, self.min_priority = alpha, min_priority
        #: The largest priority so far; new steps get it.
        self.max_priority = 1.0
        # Leaf j belongs to slot j. It is 0 if the row cannot be drawn.
        self._tree = SumTree(self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, including the sum tree."""
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
        """Draws in proportion to priorities; returns what `ReplayBuffer.sample` returns.

        Args:
            batch_size: B >= 1.
            n_step: See `ReplayBuffer.sample`.
            gamma: See `ReplayBuffer.sample`.
            beta: Exponent of the importance weights, >= 0; see `annealed_beta`.
            sequence_length: See `ReplayBuffer.sample`; the priority of the first step counts.
            uniform: Whether to draw uniformly, for losses that need it. Then ``beta`` is not needed
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
                f"beta must be a number >= 0 to sample from a prioritized buffer; got {beta}. "
                "Compute it with rlssl.replay.annealed_beta."
            )
        check_sample(batch_size, n_step, gamma, sequence_length)
        with self._lock:
            self._check_not_empty()
            slots = self._tree.draw(self._generator, batch_size)
            priorities = self._tree.leaves[slots]
            batch = self._drawn(slots, n_step, gamma, sequence_length)
        # N and the total cancel. The least likely step of the batch has the largest weight.
        weights = (priorities.min() / priorities) ** beta
        return batch | {"weights": weights.astype(np.float32)}

    def update_priorities(self, indices: np.ndarray, priorities: np.ndarray) -> None:
        """Sets the priorities of drawn steps; steps that have been replaced are ignored.

        Args:
            indices: [B], integers, from a batch. If an index repeats, its last priority counts.
            priorities: [B], >= 0, from the RL loss only: absolute TD errors or cross-entropies.

        Raises:
            ValueError: If a shape does not fit, an index was never drawn, or a priority is negative
                or not finite; the message names the index. Then no priority is set.
        """
        with self._lock:
            serials, values = check_priorities(indices, priorities, self._ring.next)
            alive = serials >= self._ring.oldest
            slots, values = self._ring.slots(serials[alive]), values[alive]
            drawable = self._rows.drawable[slots]
            slots, values = slots[drawable], np.maximum(values[drawable], self.min_priority)
            if len(slots):
                self._tree.set(slots, values**self.alpha)
                self.max_priority = max(self.max_priority, float(values.max()))

    def priorities(self, indices: np.ndarray) -> np.ndarray:
        """[B], the probability P(i) of each step in a single draw; 0 for replaced steps."""
        with self._lock:
            serials = np.asarray(indices)
            alive = (serials >= self._ring.oldest) & (serials < self._ring.next)
            values = np.where(alive, self._tree.leaves[self._ring.slots(serials)], 0.0)
            return values / self._tree.total()

    def _drawable_changed(self, lost: np.ndarray, gained: np.ndarray) -> None:
        self._tree.set(lost, 0.0)
        self._tree.set(gained, self.max_priority**self.alpha)

    def _arrays(self) -> dict[str, np.ndarray]:
        return super()._arrays() | {"priorities": self._tree.leaves}

    def _description(self) -> dict[str, Any]:
        return super()._description() | {"alpha": self.alpha}

    def _head(self) -> dict[str, np.ndarray]:
        return super()._head() | {"max_priority": np.array(self.max_priority)}

    def _restore_head(self, head: Mapping[str, np.ndarray], with_intrinsic_rewards: bool) -> None:
        super()._restore_head(head, with_intrinsic_rewards)
        self.max_priority = float(head["max_priority"])
        self._tree.leaves[:] = 0.0

    def _rows_restored(self) -> None:
        super()._rows_restored()
        self._tree.rebuild()


def annealed_beta(
    env_steps: float, *, start: float = 0.4, end: float = 1.0, anneal_env_steps: float
) -> float:
    """Anneals beta linearly from ``start`` to ``end`` over ``anneal_env_steps``, then keeps it.

    Args:
        env_steps: Env steps since the start of the run (agent steps x action repeat); >= 0.
        start: Beta at env step 0, no unit.
        end: Final beta, no unit; 1 fully corrects for non-uniform draws.
        anneal_env_steps: Env steps until beta reaches ``end``; > 0.

    Raises:
        ValueError: If ``env_steps`` is negative or ``anneal_env_steps`` is not positive.

    Source:
        Schaul et al. 2016, arXiv:1511.05952, section 3.4. Hessel et al. 2018, arXiv:1710.02298:
        from 0.4 to 1 over the run.

    Example:
        >>> [annealed_beta(t, start=0.5, anneal_env_steps=100) for t in (0, 50, 200)]
        [0.5, 0.75, 1.0]
    """
    if env_steps < 0:
        raise ValueError(f"env_steps must be >= 0; got {env_steps}.")
    if anneal_env_steps <= 0:
        raise ValueError(f"anneal_env_steps must be > 0; got {anneal_env_steps}.")
    return start + (end - start) * min(env_steps / anneal_env_steps, 1.0)
