"""The state of environments that step together: rows, frame stacks and recurrent states."""

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
    """A vector step that has begun, with the policy's outputs for it: arrays [n, ...]."""

    # Struct, as the policy gives the actions.
    actions: Any
    # Struct, as the environments take the actions.
    to_env: Any
    # Name -> struct: the policy's other outputs.
    outputs: Mapping[str, Any]


class EnvBatch:
    """The n environments of some slots: their rows, frame stacks and pending resets.

    A runner has one batch of all its environments. With double buffering it has two batches of half
    the environments: one steps while the policy runs on the observations of the other.
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
            index: 0, or 1 for the second half.
            slots: The slots of these environments in the runner.
            observations: Struct of [n, ...], the first observations.
            observation_space: Space of one environment and one frame, from `with_layout`.
            action_space: Space of one environment.
            lookback: As for `Fragment`.
            frames: Number of frames in a stacked observation.
            initial_state: Struct of [...], a recurrent module's initial state; else None.
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
        self.every_env = np.ones(self.size, np.bool_)
        self.frame_stack: FrameStack | None = None
        if frames > 1:
            self.frame_stack = FrameStack(frames, self.size, observation_space)
            self.frame_stack.push(observations)
            self.frame_stack.reset(observations, self.every_env)
        self._initial_state = initial_state
        #: Struct of [n, ...]: a recurrent module's state before the next step; else None.
        self.state: Any = None
        if initial_state is not None:
            self.state = tree.map_structure(
                lambda leaf: np.repeat(leaf[None], self.size, 0), initial_state
            )
        # The vector step that has begun and not finished.
        self.pending_step: PendingStep | None = None
        #: [n], bool: environments whose next step is an autoreset; and the number of them.
        self.awaits_reset, self.num_awaiting = ~self.every_env, 0

    @property
    def expected(self) -> int:
        """Agent steps that the pending vector step will give if no environment fails."""
        return 0 if self.pending_step is None else self.size - self.num_awaiting

    def observations(self) -> Any:
        """The policy's input: a struct of [n, ...], with stacked frames."""
        if self.frame_stack is None:
            return self.fragment.latest_observations()
        return self.frame_stack.stacked()

    def observe(self, observations: Any, begins: np.ndarray | None) -> None:
        """Updates the frame stacks and recurrent states with the newest observations.

        Args:
            observations: Struct of [n, ...].
            begins: [n], bool: True for the first observation of a learning episode. None means
                that no episode begins.
        """
        if self.frame_stack is not None:
            self.frame_stack.push(observations)
            if begins is not None:
                self.frame_stack.reset(observations, begins)
        if begins is not None:
            self._reset_state(begins)

    def await_reset(self, over: np.ndarray, count: int) -> None:
        """Sets which environments autoreset in their next step: [n], bool, ``count`` of them."""
        self.awaits_reset, self.num_awaiting = over, count

    def abandon(self, observations: Any) -> tuple[int, int]:
        """Drops the unfinished episodes of all environments and begins new ones.

        Args:
            observations: Struct of [n, ...], the first observations of the new episodes.

        Returns:
            Number of episodes dropped, and number of their steps in this fragment.
        """
        dropped = self.fragment.abandon()
        self.fragment.skip(observations)
        self.observe(observations, self.every_env)
        self.await_reset(~self.every_env, 0)
        self.pending_step = None
        return dropped

    def _reset_state(self, begins: np.ndarray) -> None:
        """Sets the recurrent state of some environments to the initial state."""
        if self.state is not None:
            # A new array, because the module's output may be read-only.
            self.state = tree.map_structure(
                lambda state, initial: np.where(_broadcast_mask(begins, state), initial, state),
                self.state,
                self._initial_state,
            )


def _broadcast_mask(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Reshapes a mask [n] to [n, 1, ...], which broadcasts with an array [n, ...]."""
    return mask.reshape(-1, *[1] * (array.ndim - 1))
