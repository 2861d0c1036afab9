"""What a replay buffer will take, before it takes it."""

import os
from pathlib import Path

import gymnasium as gym

from rlssl.replay.frames import Frames
from rlssl.replay.layout import Layout
from rlssl.replay.storage import ROW_BYTES

# Leaf and sum, float64 each.
_PRIORITY_BYTES = 2 * 8
_INTRINSIC_REWARD_BYTES = 4

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def estimate_bytes(
    capacity: int,
    observation_space: gym.Space,
    action_space: gym.Space,
    frame_stack: int = 1,
    *,
    prioritized: bool = True,
    intrinsic_rewards: bool = False,
    frames_in_memory: bool = True,
) -> int:
    """Bytes of memory of a full buffer: frames, actions, rewards, links, flags and priorities.

    Args:
        capacity: Rows.
        observation_space: Of one frame.
        action_space: As for the buffer.
        frame_stack: Frames of a stack; each frame is stored once, whatever it is.
        prioritized: Whether it is a `PrioritizedReplayBuffer`.
        intrinsic_rewards: Whether they are stored.
        frames_in_memory: False with a ``storage_path``.

    Raises:
        ValueError: If the spaces cannot be stored or stacked.
    """
    frames = Frames(observation_space, frame_stack)
    actions = Layout(action_space, "action_space").leaves
    row = sum(leaf.nbytes for leaf in actions) + ROW_BYTES
    row += frames_in_memory * sum(leaf.nbytes for leaf in frames.stored)
    row += prioritized * _PRIORITY_BYTES + intrinsic_rewards * _INTRINSIC_REWARD_BYTES
    return capacity * row


def check_memory(num_bytes: int, share: float = 0.5, *, setting: str = "capacity") -> None:
    """Refuses what would take more than a share of this node's memory.

    Args:
        num_bytes: See `estimate_bytes`.
        share: Of the memory, in (0, 1].
        setting: To be lowered; named in the message.

    Raises:
        MemoryError: With both sizes in GiB.
        ValueError: If ``share`` is out of range.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must be in (0, 1]; got {share}.")
    available = node_bytes()
    if num_bytes > share * available:
        raise MemoryError(
            f"the replay buffer would take {num_bytes / 2**30:.2f} GiB, more than "
            f"{share * 100:.0f} % of this node's {available / 2**30:.2f} GiB; lower {setting}, or "
            "raise the share that it may take."
        )


def node_bytes() -> int:
    """Bytes of memory that processes of this node, or of this container, may take."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_cgroup_limits()])


def _cgroup_limits() -> list[int]:
    """The limits of this process's control group and of those around it, versions 1 and 2."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container, the group's own folder is often mounted as the root.
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
    return [int(text)] if text.isdigit() else []  # "max": none
