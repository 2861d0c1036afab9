"""Estimates the memory of a replay buffer, and compares it with the memory of the node."""

import os
from pathlib import Path

import gymnasium as gym

from rlssl.replay.frames import Frames
from rlssl.replay.hindsight.episode_rows import BYTES as EPISODE_ROWS_BYTES
from rlssl.replay.storage import IDENTITY_BYTES, ROW_BYTES
from rlssl.space_layout import Layout

# Priority and sum, float64 each.
_PRIORITY_BYTES = 2 * 8
_INTRINSIC_REWARD_BYTES = 4


def estimate_bytes(
    capacity: int,
    observation_space: gym.Space,
    action_space: gym.Space,
    frame_stack: int = 1,
    *,
    prioritized: bool = True,
    intrinsic_rewards: bool = False,
    frames_in_memory: bool = True,
    identity: bool = False,
    relabel: bool = False,
) -> int:
    """Bytes of memory of a full buffer: frames, actions, rewards, links, flags and priorities.

    Args:
        capacity: Number of rows.
        observation_space: The space of one frame.
        action_space: The action space of the buffer.
        frame_stack: Frames per stack; does not change the size, as each frame is stored once.
        prioritized: Whether the buffer is a `PrioritizedReplayBuffer`.
        intrinsic_rewards: Whether the buffer stores intrinsic rewards.
        frames_in_memory: False if the buffer has a ``storage_path``.
        identity: Whether the buffer keeps episodes and steps of rows.
        relabel: Whether the buffer replaces goals.

    Raises:
        ValueError: If the spaces cannot be stored or stacked.

    Example:
        A row takes 10 * 10 bytes for the frame, 8 for the action, 4 for the reward, 8 for links, 3
        for flags and 16 for the priority: 139 bytes.

        >>> from gymnasium.spaces import Box, Discrete
        >>> estimate_bytes(1000, Box(0, 255, (10, 10, 1), "uint8"), Discrete(6), frame_stack=4)
        139000
    """
    frames = Frames(observation_space, frame_stack)
    actions = Layout(action_space, "action_space").leaves
    row = sum(leaf.nbytes for leaf in actions) + ROW_BYTES
    row += frames_in_memory * sum(leaf.nbytes for leaf in frames.stored)
    row += prioritized * _PRIORITY_BYTES + intrinsic_rewards * _INTRINSIC_REWARD_BYTES
    row += identity * IDENTITY_BYTES + relabel * EPISODE_ROWS_BYTES
    return capacity * row


def check_memory(
    num_bytes: int,
    share: float = 0.5,
    *,
    setting: str = "capacity",
    available: int | None = None,
) -> None:
    """Raises an error if a buffer would take more than a share of this node's memory.

    Args:
        num_bytes: Bytes of the buffer; see `estimate_bytes`.
        share: Largest share of the memory, in (0, 1].
        setting: Name of the setting to lower, for the message.
        available: Bytes of memory of the node; None: `node_bytes`.

    Raises:
        MemoryError: If the buffer is too large; the message has both sizes in GiB.
        ValueError: If ``share`` is out of range.

    Example:
        >>> check_memory(3 * 2**30, available=8 * 2**30)
        >>> check_memory(5 * 2**30, available=8 * 2**30)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        MemoryError: the replay buffer would take 5.00 GiB, more than 50 % of this node's ...
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must be in (0, 1]; got {share}.")
    if available is None:
        available = node_bytes()
    if num_bytes > share * available:
        raise MemoryError(
            f"the replay buffer would take {num_bytes / 2**30:.2f} GiB, more than "
            f"{share * 100:.0f} % of this node's {available / 2**30:.2f} GiB; lower {setting}, or "
            "raise the share that it may take."
        )


def node_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that processes on this node or in this container may use.

    Args:
        proc: Folder of the process file system.
        cgroups: Folder of the control groups.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_cgroup_limits(proc, cgroups)])


def _cgroup_limits(proc: Path, cgroups: Path) -> list[int]:
    """Limits of this process's control group and of its parents, in versions 1 and 2."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container, the folder of the group itself is often mounted as the root.
        inner = root / group.strip("/")
        for folder in (inner, *inner.parents):
            if folder == root or root in folder.parents:
                limits += _limit(folder / name)
    return limits


def _limit(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []  # "max" means no limit
