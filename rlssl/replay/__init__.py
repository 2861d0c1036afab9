"""Replay: each frame is stored once; stacks and n-step returns are computed when sampling.

This package does not depend on algorithms. docs/replay.md describes what is stored and how returns
are computed.
"""

from rlssl.replay.buffer import ReplayBuffer
from rlssl.replay.hindsight.relabeling import RELABELED, RelabelSettings
from rlssl.replay.memory_budget import check_memory, estimate_bytes
from rlssl.replay.prefetch import Prefetcher
from rlssl.replay.prioritized import PrioritizedReplayBuffer, annealed_beta

__all__ = [
    "RELABELED",
    "Prefetcher",
    "PrioritizedReplayBuffer",
    "RelabelSettings",
    "ReplayBuffer",
    "annealed_beta",
    "check_memory",
    "estimate_bytes",
]
