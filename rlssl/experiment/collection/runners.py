"""Plays the episodes of a recording in order, in this process or in several."""

import collections
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from rlssl import trust
from rlssl.errors import ResourceError
from rlssl.experiment.cluster.connect import start_local
from rlssl.experiment.collection.playing import PlayedEpisode, Player
from rlssl.experiment.collection.recording import Recording
from rlssl.plugins import load_plugins
from rlssl.ray_internals.errors import raised_by_worker
from rlssl.registry import local_registrations, restore_registrations
from rlssl.system.interrupts import raise_if_interrupted

#: Episodes that each runner is ahead of the episode that is written; they are in memory.
_AHEAD = 2

#: How often a runner whose process died is started again.
_RESTARTS = 3


def played(
    recording: Recording, indices: Iterator[int], num_runners: int, plugins: Sequence[str] = ()
) -> Generator[PlayedEpisode, None, None]:
    """The episodes with these numbers, in this order. Close the iterator to end the runners.

    Args:
        recording: What is played.
        indices: Numbers of episodes.
        num_runners: Processes; 0: this process.
        plugins: Modules that the processes import, besides those of the policy.

    Raises:
        SpecError: The policy is for another environment.
        EnvironmentFaultError: A step took too long.
        ResourceError: The process of a runner died several times.
    """
    if num_runners == 0:
        yield from _played_here(recording, indices)
    else:
        yield from _played_remotely(recording, indices, num_runners, plugins)


def _played_here(
    recording: Recording, indices: Iterator[int]
) -> Generator[PlayedEpisode, None, None]:
    player = Player(recording)
    try:
        yield from map(player.play, indices)
    finally:
        player.close()


class _RemotePlayer:
    """A player in a process of its own."""

    def __init__(
        self, recording: Recording, plugins: Sequence[str], tables: Mapping[str, Any]
    ) -> None:
        load_plugins(plugins)
        restore_registrations(tables)
        if recording.policy.folder is not None:
            trust.accept(recording.policy.folder)  # the process that started this one checked it
        self._player = Player(recording)

    def play(self, index: int) -> PlayedEpisode:
        return self._player.play(index)


def _played_remotely(
    recording: Recording, indices: Iterator[int], num_runners: int, plugins: Sequence[str]
) -> Generator[PlayedEpisode, None, None]:
    start_local(num_runners)
    # An episode depends on its number only, so a new process may play it again.
    make = ray.remote(num_cpus=1, max_restarts=_RESTARTS, max_task_retries=_RESTARTS)
    actor_class = make(_RemotePlayer)
    arguments = (recording, list(plugins), local_registrations())
    runners = [actor_class.remote(*arguments) for _ in range(num_runners)]
    turns = itertools.cycle(runners)
    pending: collections.deque[Any] = collections.deque()
    for index in itertools.islice(indices, _AHEAD * num_runners):
        pending.append(next(turns).play.remote(index))
    while pending:
        result = _got(pending.popleft())
        for index in itertools.islice(indices, 1):
            pending.append(next(turns).play.remote(index))
        yield result
    # Ray ends actors that nothing refers to.


def _got(reference: Any) -> PlayedEpisode:
    try:
        result: PlayedEpisode = ray.get(reference)
    except RayTaskError as error:
        raise raised_by_worker(error) from error
    except SystemError:
        raise_if_interrupted()  # Ray's C code may hide the KeyboardInterrupt behind this error
        raise
    except RayActorError as error:
        cause = raised_by_worker(error)
        if cause is not error:
            raise cause from error
        raise ResourceError(
            f"a runner died {_RESTARTS + 1} times: {error}. Use fewer --env-runners if the "
            "memory is full; the same command continues."
        ) from error
    return result
