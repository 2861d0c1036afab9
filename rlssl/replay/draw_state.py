"""What a replay buffer needs to draw the same batches again, besides its rows.

A buffer that is filled from a data set need not be saved: its rows are in the data set.
"""

from typing import Any

from rlssl.replay.buffer import ReplayBuffer
from rlssl.replay.prioritized import PrioritizedReplayBuffer
from rlssl.replay.saving import generator_state, set_generator_state


def draw_state(replay: ReplayBuffer) -> dict[str, Any]:
    """The generator of the draws, and the priorities if there are any.

    Example:
        >>> from gymnasium.spaces import Box, Discrete
        >>> sorted(draw_state(ReplayBuffer(9, Box(0, 1), Discrete(2), seed=0)))
        ['generator', 'num_added']
    """
    with replay._lock:
        state = {"generator": generator_state(replay._generator), "num_added": replay.num_added}
        if isinstance(replay, PrioritizedReplayBuffer):
            state["priorities"] = replay._tree.leaves.copy()
            state["max_priority"] = replay.max_priority
        return state


def set_draw_state(replay: ReplayBuffer, state: dict[str, Any]) -> None:
    """Lets a buffer with the same rows draw the same batches, bit for bit.

    Raises:
        ValueError: If the buffer has another number of steps.
    """
    with replay._lock:
        if state["num_added"] != replay.num_added:
            raise ValueError(
                f"the draws are of {state['num_added']:,} steps, and the buffer has "
                f"{replay.num_added:,}."
            )
        set_generator_state(replay._generator, state["generator"])
        if isinstance(replay, PrioritizedReplayBuffer):
            replay._tree.leaves[:] = state["priorities"]
            replay._tree.rebuild()
            replay.max_priority = state["max_priority"]
