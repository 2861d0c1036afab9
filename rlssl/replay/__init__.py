"""Replay: each frame stored once; stacks, n-step returns and priorities computed at sampling.

Knows nothing of algorithms. `docs/replay.md` says what is stored and how returns are formed.
"""

from rlssl.replay.buffer import ReplayBuffer
from rlssl.replay.memory_budget import check_memory, estimate_bytes
from rlssl.replay.prefetch import Prefetcher
from rlssl.replay.prioritized import PrioritizedReplayBuffer, annealed_beta

__all__ = [
    "Prefetcher",
    "PrioritizedReplayBuffer",
    "ReplayBuffer",
    "annealed_beta",
    "check_memory",
    "estimate_bytes",
]
