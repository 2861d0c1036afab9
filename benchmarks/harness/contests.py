"""Runs contestants in turn on the same work, and compares their speeds.

Every contestant runs in a separate process, so that none changes the threads, allocator or imports
of another. A play is one measurement of one contestant; the others wait. A round is one play of
each contestant. The contestant that begins changes from round to round. Speeds are compared only
within a round, because the speed of a machine changes over time.
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
    """A contestant cannot run here: what it needs is not installed, or does not exist yet."""


class ContestantDiedError(RuntimeError):
    """A contestant's process ended before it was told to."""


@dataclass(frozen=True)
class Sample:
    """One play: units of work, and seconds by the clock and of processors."""

    units: float
    wall_s: float
    # Of the contestant's process and of all processes that it started.
    cpu_s: float
    detail: Mapping[str, Any] = field(default_factory=dict)

    def rate(self, clock: str = "wall") -> float:
        """Units a second: by the clock ("wall") or of processor time ("cpu")."""
        return self.units / (self.wall_s if clock == "wall" else self.cpu_s)


Play = Callable[[], Sample]


@dataclass(frozen=True)
class Contestant:
    """A library or loop that is measured.

    ``make(seconds)`` runs in the contestant's process. It prepares everything and returns a play
    that takes at least ``seconds``, or raises `UnavailableError`. ``make`` must pickle.
    """

    name: str
    make: Callable[[float], Play]
    # Threads of torch and OpenMP.
    threads: int = 1


@dataclass(frozen=True)
class Comparison:
    """Speed of the fastest of ``of``, divided by the speed of the fastest of ``against``.

    ``of_time``: compares seconds instead, so less is better. ``against_slowest``: the slowest of
    ``against`` counts, as for work that has both as its parts. The fastest contestant is the one
    with the highest median. The ratio is compared with ``must_reach`` and ``goal``; None: only
    shown.
    """

    of: tuple[str, ...]
    against: tuple[str, ...]
    must_reach: float | None = None
    goal: float | None = None
    of_time: bool = False
    against_slowest: bool = False


@dataclass(frozen=True)
class Row:
    """One kind of work, its contestants, and the comparisons between them."""

    name: str
    title: str
    unit: str
    contestants: tuple[Contestant, ...]
    comparisons: tuple[Comparison, ...] = ()
    # Least seconds of a play; 0: the work is done once.
    seconds: float = 3.0
    # Rounds before those that are counted.
    warm_up: int = 1


@dataclass(frozen=True)
class Spread:
    """The median of some values, their minimum and their maximum."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


Samples = Mapping[str, Sequence[Sample]]


def ratios(comparison: Comparison, samples: Samples, clock: str = "wall") -> list[float]:
    """One ratio a round; none if no contestant of one side was measured."""
    subject, rival = fastest(comparison.of, samples), rival_of(comparison, samples)
    if subject is None or rival is None:
        return []
    pairs = zip(samples[subject], samples[rival], strict=True)
    quotients = [one.rate(clock) / other.rate(clock) for one, other in pairs]
    return [1 / quotient for quotient in quotients] if comparison.of_time else quotients


def fastest(names: Sequence[str], samples: Samples) -> str | None:
    """The name with the highest median speed by the clock; None if none was measured."""
    speed = _speeds(names, samples)
    return max(speed, key=speed.__getitem__, default=None)


def rival_of(comparison: Comparison, samples: Samples) -> str | None:
    """The name of ``against`` that is compared; None if none was measured."""
    if not comparison.against_slowest:
        return fastest(comparison.against, samples)
    speed = _speeds(comparison.against, samples)
    return min(speed, key=speed.__getitem__, default=None)


def _speeds(names: Sequence[str], samples: Samples) -> dict[str, float]:
    """The median speeds by the clock of those that were measured."""
    played = [name for name in names if samples.get(name)]
    return {name: Spread.of([one.rate() for one in samples[name]]).median for name in played}


def reaches(ratio: float, target: float | None, comparison: Comparison) -> bool | None:
    """Whether the ratio reaches the target; None if there is no target."""
    if target is None:
        return None
    return ratio <= target if comparison.of_time else ratio >= target


def turn_order(names: Sequence[str], round_index: int) -> list[str]:
    """Every name once; each round begins with the next name."""
    start = round_index % len(names) if names else 0
    return [*names[start:], *names[:start]]


def repeat(step: Callable[[], float], seconds: float) -> Play:
    """A play that calls ``step`` until ``seconds`` are over; ``step`` returns its units of work."""

    def play() -> Sample:
        cpu, start, units = tree_cpu_seconds(os.getpid()), time.perf_counter(), 0.0
        while True:
            units += step()
            wall = time.perf_counter() - start
            if wall >= seconds:
                return Sample(units, wall, tree_cpu_seconds(os.getpid()) - cpu)

    return play


def tree_cpu_seconds(root: int) -> float:
    """Processor time so far of a process and its descendants.

    It includes ended children that their parent has waited for, not those that it has not. Linux's
    /proc gives it in steps of 10 ms.
    """
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the command's name, which may contain blanks and brackets.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has ended
        parents[int(folder.name)] = int(fields[1])
        seconds[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return sum(seconds[pid] for pid in descendants(root, parents) if pid in seconds)


def descendants(root: int, parents: Mapping[int, int]) -> set[int]:
    """``root``, its children, their children, and so on."""
    found, more = {root}, True
    while more:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found, more = found | children, bool(children)
    return found


def play_row(
    row: Row, rounds: int, seconds: float | None = None
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Measures every round of a row.

    Args:
        row: What to measure.
        rounds: Rounds that are counted: the number of samples of each contestant.
        seconds: Replaces ``row.seconds``, unless that is 0.

    Returns:
        Samples by name, and, by name, why a contestant was not measured.

    Raises:
        ContestantDiedError: With the last lines that it printed.
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


#: Seconds that a contestant may take to prepare, or for one play; after that it is killed.
LIMIT_S = 240.0


class _Player:
    """A contestant's process, which waits for its turn."""

    def __init__(self, contestant: Contestant, seconds: float, folder: Path) -> None:
        """Starts the process; waits until it is ready, or has reported why it cannot run."""
        self._name = contestant.name
        self._log = folder / f"{contestant.name.replace('/', '-')}.log"
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, contestant, seconds, str(self._log))
        )
        # A separate Ray cluster, even if one runs on this machine.
        with _environment(OMP_NUM_THREADS=str(contestant.threads), RAY_ADDRESS="local"):
            self._process.start()
        theirs.close()
        self.problem = str(self._receive() or "")

    def play(self) -> Sample:
        """Makes the contestant run one play."""
        self._pipe.send(True)
        sample: Sample = self._receive()
        return sample

    def stop(self) -> None:
        """Ends the process."""
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
            raise ContestantDiedError(f"{self._name} died; its last output:\n{words}") from None


def _serve(pipe: Connection, contestant: Contestant, seconds: float, log: str) -> None:
    """The main function of a contestant's process."""
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
