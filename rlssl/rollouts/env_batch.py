"""What a runner keeps of the environments that step together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tree

from rlssl.connectors.frame_stack import FrameStack
from rlssl.rollouts.fragment import Fragment


@dataclass(frozen=True)
class PendingStep:
    """A vector step that has begun, and what the policy gave for it: arrays [n, ...]."""

    # A struct, as the policy has them, and as the environments take them.
    actions: Any
    to_env: Any
    # Name -> struct.
    outputs: Mapping[str, Any]


class EnvBatch:
    """The n environments of some slots: their rows, stacks, and who waits for a reset.

    A runner has one of all its environments; or two of half of them, one of which steps while the
    policy runs on the other's observations (double buffering).
    """

    def __init__(
        self,
        index: int,
        slots: slice,
        observations: Any,
        *,
        observation_space: gym.Space,
        action_space: gym.Space,
        lookback: int,
        frames: int,
        initial_state: Any = None,
    ) -> None:
        """Starts a new episode in every environment.

        Args:
            index: 0, or 1 of the second half.
            slots: Which of the runner's environments.
            observations: Struct of [n, ...], the first ones.
            observation_space: Of one environment and one frame.
            action_space: Of one environment.
            lookback: As for `Fragment`.
            frames: Frames of a stacked observation.
            initial_state: Struct of [...], of a recurrent module.
        """
        self.index, self.slots = index, slots
        self.size = slots.stop - slots.start
        self.fragment = Fragment(
            observations,
            observation_space=observation_space,
            action_space=action_space,
            lookback=lookback,
            frames=frames,
        )
        self.everybody = np.ones(self.size, np.bool_)
        self.frame_stack: FrameStack | None = None
        if frames > 1:
            self.frame_stack = FrameStack(frames, self.size, observation_space)
            self.frame_stack.push(observations)
            self.frame_stack.reset(observations, self.everybody)
        self._initial_state = initial_state
        #: Struct of [n, ...]: a recurrent module's state before the next step; else None.
        self.state: Any = None
        if initial_state is not None:
            self.state = tree.map_structure(
                lambda leaf: np.repeat(leaf[None], self.size, 0), initial_state
            )
        # The vector step that has begun and not ended.
        self.pending_step: PendingStep | None = None
        #: [n], bool: whose next step is the reset of an autoreset; and how many they are.
        self.awaits_reset, self.num_awaiting = ~self.everybody, 0

    @property
    def expected(self) -> int:
        """Agent steps that the vector step under way will give, if nothing fails."""
        return 0 if self.pending_step is None else self.size - self.num_awaiting

    def observations(self) -> Any:
        """What the policy acts on: a struct of [n, ...], frames stacked."""
        if self.frame_stack is None:
            return self.fragment.latest_observations()
        return self.frame_stack.stacked()

    def look(self, observations: Any, begins: np.ndarray | None) -> None:
        """Takes the newest observations into what the policy acts on.

        Args:
            observations: Struct of [n, ...].
            begins: [n], bool: which are the first of a learning episode; None: none is.
        """
        if self.frame_stack is not None:
            self.frame_stack.push(observations)
            if begins is not None:
                self.frame_stack.reset(observations, begins)
        if begins is not None:
            self._forget(begins)

    def await_reset(self, over: np.ndarray, count: int) -> None:
        """Notes whose next step is the reset of an autoreset: [n], bool, ``count`` of them."""
        self.awaits_reset, self.num_awaiting = over, count

    def abandon(self, observations: Any) -> tuple[int, int]:
        """Drops the unfinished episodes of all environments; new ones begin.

        Args:
            observations: Struct of [n, ...], their first ones.

        Returns:
            Number of episodes dropped, and of their steps in this fragment.
        """
        dropped = self.fragment.abandon()
        self.fragment.skip(observations)
        self.look(observations, self.everybody)
        self.await_reset(~self.everybody, 0)
        self.pending_step = None
        return dropped

    def _forget(self, begins: np.ndarray) -> None:
        """Gives some a recurrent module's initial state."""
        if self.state is not None:
            # A new array: what the module gave may be no one's to write to.
            self.state = tree.map_structure(
                lambda state, initial: np.where(_like(begins, state), initial, state),
                self.state,
                self._initial_state,
            )


def _like(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    """The mask [n] as [n, 1, ...], to go with an array [n, ...]."""
    return mask.reshape(-1, *[1] * (array.ndim - 1))
