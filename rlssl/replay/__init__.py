"""Replay: each frame stored once; stacks, n-step returns and priorities computed at sampling.

Knows nothing of algorithms. `docs/replay.md` says what is stored and how returns are formed.
"""

from rlssl.replay.beta import annealed_beta
from rlssl.replay.buffer import ReplayBuffer
from rlssl.replay.memory import check_memory, estimate_bytes
from rlssl.replay.prefetch import Prefetcher
from rlssl.replay.prioritized import PrioritizedReplayBuffer

__all__ = [
    "Prefetcher",
    "PrioritizedReplayBuffer",
    "ReplayBuffer",
    "annealed_beta",
    "check_memory",
    "estimate_bytes",
]
