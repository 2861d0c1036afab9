"""Every stream of random numbers of a run, from one seed.

A stream has an address: the run's seed, its role, the sampler, the copy of the environment, and how
often things were built again. Different addresses give independent streams, also for run seeds
that differ by 1. See docs/rollouts.md, "Seeds".
"""

import random
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Role = Literal[
    "environment",
    "process",
    "actions",
    "action_space",
    "learner",
    "replay",
    "collection",
    "collection_actions",
    "data",
    "data_episodes",
]

#: Role -> its number in the address. Numbers are never used again for another role.
ROLES: dict[Role, int] = {
    # What an environment gets in `make` and in its first `reset`.
    "environment": 0,
    # The global generators (Python, numpy, torch) while a runner samples.
    "process": 1,
    # The generator from which a runner draws actions.
    "actions": 2,
    # A runner's action space, which draws random actions.
    "action_space": 3,
    # A Learner's global generators.
    "learner": 4,
    # The batches that are drawn from the replay buffer.
    "replay": 5,
    # The reset of an episode that is recorded into a data set; the copy is the episode.
    "collection": 6,
    # The random actions of such an episode.
    "collection_actions": 7,
    # The batches that are drawn from a data set.
    "data": 8,
    # The episodes of a data set that are trained on, if not all are.
    "data_episodes": 9,
}

#: Added to the role of runners that evaluate.
_EVALUATION = 1_000
#: Numbers of the streams that come from an environment's own seed.
_COPY_PROCESS, _COPY_SPACES = 2_000, 2_001

#: Evaluation episode k has seed k, so training begins far above these small numbers. The most is
#: below 2**31 - 2**16: emulators take 31 bits, and native vector environments add the copy's index.
_LEAST_SEED = 2**30
_NUM_SEEDS = 2**30 - 2**16

#: What a restart of a process, and what a restored run, adds to the count of restarts; a rebuilt
#: environment adds 1.
PROCESS_RESTART = 2**20
RESTORED_RUN = 2**32


def stream(
    run_seed: int | None,
    role: Role,
    *,
    sampler: int = 0,
    copy: int = 0,
    restart: int = 0,
    evaluation: bool = False,
) -> np.random.SeedSequence:
    """The source of one stream.

    Args:
        run_seed: Seed of the run, >= 0; None: not reproducible.
        role: A key of `ROLES`.
        sampler: Index of the runner among those that sample; see `sampler_index`. For "learner":
            index of the Learner.
        copy: Index of the environment in its runner.
        restart: How often environments were rebuilt; see `PROCESS_RESTART`, `RESTORED_RUN`.
        evaluation: Whether the runner evaluates.

    Example:
        >>> first, second = (stream(0, "actions", sampler=sampler) for sampler in (0, 1))
        >>> first.generate_state(1) == second.generate_state(1)
        array([False])
    """
    number = ROLES[role] + _EVALUATION * evaluation
    return np.random.SeedSequence(run_seed, spawn_key=(number, sampler, copy, restart))


def integer(source: np.random.SeedSequence) -> int:
    """A seed of 63 bits, for generators that take integers.

    Example:
        >>> 0 <= integer(stream(0, "replay")) < 2**63
        True
    """
    return int(source.generate_state(1, np.uint64)[0] >> np.uint64(1))


def sampler_index(worker_index: int | None, num_remote: int) -> int:
    """The index of a runner among those that sample.

    Sampler 0 is the local runner if it samples, else the first remote runner. So a run has the same
    streams with 0 and with 1 remote runner.

    Args:
        worker_index: RLlib's index: 0 or None is the local runner, remote runners begin at 1.
        num_remote: Number of remote runners.

    Example:
        >>> sampler_index(0, 0), sampler_index(1, 2), sampler_index(2, 2), sampler_index(0, 2)
        (0, 0, 1, 2)
    """
    return worker_index - 1 if worker_index else num_remote


@dataclass(frozen=True)
class SamplerSeeds:
    """The streams of one runner.

    Example:
        >>> SamplerSeeds(0, sampler=3).environments(2, restart=0) == [
        ...     SamplerSeeds(0, sampler=3).environment(copy, restart=0) for copy in (0, 1)
        ... ]
        True
    """

    # None: nothing is seeded.
    run_seed: int | None
    sampler: int = 0
    evaluation: bool = False

    def stream(self, role: Role, *, copy: int = 0, restart: int = 0) -> np.random.SeedSequence:
        """One stream of this runner."""
        return stream(
            self.run_seed,
            role,
            sampler=self.sampler,
            copy=copy,
            restart=restart,
            evaluation=self.evaluation,
        )

    def environment(self, copy: int, *, restart: int) -> int | None:
        """The seed of one environment, in [2**30, 2**31); None without a run seed."""
        if self.run_seed is None:
            return None
        return environment_seed(self.stream("environment", copy=copy, restart=restart))

    def environments(self, count: int, *, restart: int) -> list[int] | None:
        """The seeds of all copies; None without a run seed."""
        seeds = [self.environment(copy, restart=restart) for copy in range(count)]
        known = [seed for seed in seeds if seed is not None]
        return known if len(known) == count else None


def environment_seed(source: np.random.SeedSequence) -> int:
    """The seed of an environment that does not evaluate, in [2**30, 2**31).

    Example:
        >>> environment_seed(stream(0, "collection", copy=3)) >= 2**30
        True
    """
    return _LEAST_SEED + integer(source) % _NUM_SEEDS


def seed_of(name: str, seed: int | None) -> int:
    """A seed of 32 bits for a named part of the networks, such as an auxiliary loss.

    If all networks used the run's seed, a loss's network would start as a copy of the encoder.

    Args:
        name: Name of the part.
        seed: Seed of the run; None: not reproducible.

    Example:
        >>> seed_of("curl", 0) == seed_of("icm", 0)
        False
    """
    entropy = None if seed is None else [seed, zlib.crc32(name.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def seed_globals(source: np.random.SeedSequence) -> None:
    """Seeds the global generators of this process: Python, numpy and torch's on the CPU.

    Example:
        >>> seed_globals(stream(0, "learner", sampler=1))
        >>> first = random.random()
        >>> seed_globals(stream(0, "learner", sampler=1))
        >>> random.random() == first
        True
    """
    python, for_numpy, for_torch = (integer(child) for child in _children(source, 3))
    random.seed(python)
    np.random.seed(for_numpy % 2**32)
    torch.default_generator.manual_seed(for_torch)


def seed_episode(seed: int) -> None:
    """Seeds the global generators for evaluation episode ``seed``, with just this number.

    Example:
        >>> seed_episode(3)
        >>> random.random() == random.Random(3).random()
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def seed_copy_process(seed: int | None) -> None:
    """Seeds the global generators of a process that holds one environment only.

    Args:
        seed: The environment's seed; None: different numbers in every process.

    Example:
        >>> seed_copy_process(7)
    """
    seed_globals(np.random.SeedSequence(seed, spawn_key=(_COPY_PROCESS,)))


def space_seeds(seed: int | None, count: int) -> list[int]:
    """Seeds of ``count`` spaces of an environment, [0, 2**31), from the environment's seed.

    Example:
        >>> len(set(space_seeds(0, 2)))
        2
    """
    source = np.random.SeedSequence(seed, spawn_key=(_COPY_SPACES,))
    return [integer(child) % 2**31 for child in _children(source, count)]


def restart_after_restore(restart: int) -> int:
    """The count of restarts of a restored run whose environments could not be saved.

    Example:
        >>> restart_after_restore(3) == RESTORED_RUN
        True
    """
    return (restart // RESTORED_RUN + 1) * RESTORED_RUN


def _children(source: np.random.SeedSequence, count: int) -> list[np.random.SeedSequence]:
    """Like ``source.spawn``, which would remember how many it gave."""
    key = source.spawn_key
    return [
        np.random.SeedSequence(source.entropy, spawn_key=(*key, child)) for child in range(count)
    ]
