"""Contestants that do the same work in turn, and how fast they were against each other.

Every contestant lives in a process of its own, so that none changes another's threads, allocator
or imports. One plays at a time while the others wait; a round is one play each, and every round
begins with another contestant. Speeds are compared within a round alone, because machines drift.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class UnavailableError(Exception):
    """A contestant cannot play here: what it needs is not installed, or does not exist yet."""


class ContestantDiedError(RuntimeError):
    """A contestant's process ended before it was told to."""


@dataclass(frozen=True)
class Sample:
    """One play: so many units of work, in so many seconds by the clock and of processors."""

    units: float
    wall_s: float
    # Of the contestant's process and of everything it started.
    cpu_s: float
    detail: Mapping[str, Any] = field(default_factory=dict)

    def rate(self, clock: str = "wall") -> float:
        """Units a second, by the clock ("wall") or of processors ("cpu")."""
        return self.units / (self.wall_s if clock == "wall" else self.cpu_s)


Play = Callable[[], Sample]


@dataclass(frozen=True)
class Contestant:
    """Who plays.

    ``make(seconds)`` runs in the contestant's process, prepares everything, and returns a play that
    takes at least ``seconds``; it must pickle, or raises `UnavailableError`.
    """

    name: str
    make: Callable[[float], Play]
    # Of torch and OpenMP.
    threads: int = 1


@dataclass(frozen=True)
class Comparison:
    """Speed of the fastest of ``of`` divided by that of the fastest ``against``.

    ``of_time``: seconds are compared instead, so less is better. The fastest is who has the highest
    median. ``must_reach`` and ``goal`` are what the ratio is held against; None: it is only shown.
    """

    of: tuple[str, ...]
    against: tuple[str, ...]
    must_reach: float | None = None
    goal: float | None = None
    of_time: bool = False


@dataclass(frozen=True)
class Row:
    """One kind of work, who does it, and who is compared with whom."""

    name: str
    title: str
    unit: str
    contestants: tuple[Contestant, ...]
    comparisons: tuple[Comparison, ...] = ()
    # Seconds a play takes at least; 0: once is enough.
    seconds: float = 3.0
    # Rounds that do not count.
    warm_up: int = 1


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the range they lie in."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(statistics.median(values), min(values), max(values))


Samples = Mapping[str, Sequence[Sample]]


def ratios(comparison: Comparison, samples: Samples, clock: str = "wall") -> list[float]:
    """One ratio a round; none where nobody of one side played."""
    subject, rival = fastest(comparison.of, samples), fastest(comparison.against, samples)
    if subject is None or rival is None:
        return []
    pairs = zip(samples[subject], samples[rival], strict=True)
    quotients = [one.rate(clock) / other.rate(clock) for one, other in pairs]
    return [1 / quotient for quotient in quotients] if comparison.of_time else quotients


def fastest(names: Sequence[str], samples: Samples) -> str | None:
    """Who of ``names`` has the highest median speed by the clock; None if nobody played."""
    played = [name for name in names if samples.get(name)]
    speed = {name: Spread.of([one.rate() for one in samples[name]]).median for name in played}
    return max(speed, key=speed.__getitem__, default=None)


def reaches(ratio: float, target: float | None, comparison: Comparison) -> bool | None:
    """Whether the ratio is as good as the target; None where there is no target."""
    if target is None:
        return None
    return ratio <= target if comparison.of_time else ratio >= target


def turn_order(names: Sequence[str], round_index: int) -> list[str]:
    """Everybody once; every round begins one further."""
    start = round_index % len(names) if names else 0
    return [*names[start:], *names[:start]]


def repeat(step: Callable[[], float], seconds: float) -> Play:
    """A play that calls ``step``, which returns its units of work, until ``seconds`` are over."""

    def play() -> Sample:
        cpu, start, units = tree_cpu_seconds(os.getpid()), time.perf_counter(), 0.0
        while True:
            units += step()
            wall = time.perf_counter() - start
            if wall >= seconds:
                return Sample(units, wall, tree_cpu_seconds(os.getpid()) - cpu)

    return play


def tree_cpu_seconds(root: int) -> float:
    """Processor time so far of a process and its descendants, dead ones they waited for included.

    From Linux's /proc, so in steps of 10 ms. What a child used that nobody waited for is lost.
    """
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # Behind the command's name, which may hold blanks and brackets.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        parents[int(folder.name)] = int(fields[1])
        seconds[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return sum(seconds[pid] for pid in descendants(root, parents) if pid in seconds)


def descendants(root: int, parents: Mapping[int, int]) -> set[int]:
    """``root`` and all whose line of parents leads to it."""
    found, more = {root}, True
    while more:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found, more = found | children, bool(children)
    return found


def play_row(
    row: Row, rounds: int, seconds: float | None = None
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Plays every round of a row.

    Args:
        row: What to play.
        rounds: That count; as many as there are samples of each contestant.
        seconds: Instead of the row's own, where those are not 0.

    Returns:
        Samples, and why who did not play did not, by name.

    Raises:
        ContestantDiedError: With the last it printed.
    """
    seconds = row.seconds if seconds is None or row.seconds == 0 else seconds
    skipped: dict[str, str] = {}
    players: dict[str, _Player] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            for contestant in row.contestants:
                player = _Player(contestant, seconds, Path(folder))
                if player.problem:
                    skipped[contestant.name] = player.problem
                else:
                    players[contestant.name] = player
            samples: dict[str, list[Sample]] = {name: [] for name in players}
            for index in range(-row.warm_up, rounds):
                for name in turn_order(list(players), index):
                    sample = players[name].play()
                    if index >= 0:
                        samples[name].append(sample)
        finally:
            for player in players.values():
                player.stop()
    return samples, skipped


#: Seconds that a contestant may take to get ready, or to play once; then it is killed.
LIMIT_S = 240.0


class _Player:
    """A contestant's process, waiting for its turn."""

    def __init__(self, contestant: Contestant, seconds: float, folder: Path) -> None:
        """Starts it and waits until it is ready, or has said why it cannot play."""
        self._name = contestant.name
        self._log = folder / f"{contestant.name.replace('/', '-')}.log"
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, contestant, seconds, str(self._log))
        )
        # A cluster of its own, whatever runs on this machine.
        with _environment(OMP_NUM_THREADS=str(contestant.threads), RAY_ADDRESS="local"):
            self._process.start()
        theirs.close()
        self.problem = str(self._receive() or "")

    def play(self) -> Sample:
        """Has it play once."""
        self._pipe.send(True)
        sample: Sample = self._receive()
        return sample

    def stop(self) -> None:
        """Has it end."""
        if self._process.is_alive():
            self._pipe.send(False)
        self._process.join(30)
        self._process.kill()

    def _receive(self) -> Any:
        if not self._pipe.poll(LIMIT_S):
            self._process.kill()
        try:
            return self._pipe.recv()
        except EOFError:
            words = self._log.read_text()[-3000:] if self._log.exists() else "(no output)"
            raise ContestantDiedError(f"{self._name} died; its last words:\n{words}") from None


def _serve(pipe: Connection, contestant: Contestant, seconds: float, log: str) -> None:
    """What a contestant's process runs."""
    with open(log, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        play = contestant.make(seconds)
    except UnavailableError as reason:
        pipe.send(reason)
        return
    pipe.send(None)
    while pipe.recv():
        pipe.send(play())
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables for the processes started inside."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
