"""The faults, each with what the summaries must say about it afterwards."""

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.cluster import RUNNERS, TRIAL, Process, Raylets, kill, wait_until
from benchmarks.chaos.sweeps import Sweep

#: Seconds that the disk stays full.
_FULL_S = 20.0
#: Seconds until all processes must have started, or the runs must have found a fault and all their
#: processes must be back.
RECOVERY_S = 420.0

#: What a fault does to a sweep: a kind of `rlssl.experiment.fault_log`, and how often.
Account = Counter[str]


@dataclass
class Chaos:
    """A cluster with sweeps, and the log of what was done to them.

    Args:
        cluster: The cluster.
        sweeps: The sweeps by name.
        storage: The disk of the runs.
        choice: Chooses the victims.
    """

    cluster: Raylets
    sweeps: dict[str, Sweep]
    storage: Path
    choice: random.Random
    expected: dict[str, Account] = field(init=False)
    full: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.expected = {name: Counter() for name in self.sweeps}

    def sweep_of(self, process: Process) -> str:
        """The name of the sweep to which an actor belongs."""
        (name,) = (
            name
            for name, sweep in self.sweeps.items()
            if sweep.process is not None and sweep.process.pid == process.driver
        )
        return name

    def victim(self, kinds: Sequence[str], names: Sequence[str]) -> Process:
        """A living process of some classes, of some sweeps.

        Raises:
            RuntimeError: If there is none.
        """
        drivers = {self.sweeps[name].process.pid for name in names}  # type: ignore[union-attr]
        found = [one for one in self.cluster.processes() if one.driver in drivers]
        found = [one for one in found if one.kind in kinds or (one.is_learner and not kinds)]
        if not found:
            raise RuntimeError(f"no living {kinds or 'Learner'} of {names} to hit")
        return self.choice.choice(sorted(found, key=lambda one: one.pid))

    def expect(self, name: str, **counts: int) -> None:
        """Notes what the summary of a sweep must say."""
        self.expected[name].update(counts)


def kill_env_runner(chaos: Chaos) -> str:
    """An EnvRunner of PPO; it alone is started again."""
    return _kill_runner(chaos, "ppo")


def kill_worker(chaos: Chaos) -> str:
    """A worker of A3C; it alone is started again."""
    return _kill_runner(chaos, "a3c")


def _kill_runner(chaos: Chaos, name: str) -> str:
    victim = chaos.victim(RUNNERS, [name])
    kill(victim)
    chaos.expect(name, env_runner_restarts=1)
    return f"killed {victim.kind} {victim.pid} of {name}"


def kill_learner(chaos: Chaos) -> str:
    """A Learner of PPO; its trial continues from the newest checkpoint."""
    victim = chaos.victim((), ["ppo"])
    kill(victim)
    chaos.expect("ppo", retry=1)
    return f"killed {victim.kind} {victim.pid} of ppo"


def kill_trial(chaos: Chaos) -> str:
    """The process of a trial."""
    victim = chaos.victim([TRIAL], ["rainbow", "sac"])
    name = chaos.sweep_of(victim)
    kill(victim)
    chaos.expect(name, retry=1)
    return f"killed the trial {victim.pid} of {name}"


def freeze(chaos: Chaos) -> str:
    """The process of a trial is stopped; the driver kills it."""
    victim = chaos.victim([TRIAL], list(chaos.sweeps))
    name = chaos.sweep_of(victim)
    kill(victim, signal.SIGSTOP)
    chaos.expect(name, silent=1, retry=1)
    return f"froze the trial {victim.pid} of {name}"


def lose_node(chaos: Chaos) -> str:
    """A node with all its processes; another one joins."""
    home = chaos.victim([TRIAL], list(chaos.sweeps)).node
    there = chaos.cluster.processes()
    ended = {one.trial for one in there if one.node == home and _ends_trial(one)}
    names = {one.trial: chaos.sweep_of(one) for one in there}
    chaos.cluster.remove(home)
    for trial in ended:
        chaos.expect(names[trial], retry=1)
    lost = [one for one in there if one.node == home and one.trial not in ended]
    for one in lost:
        chaos.expect(names[one.trial], env_runner_restarts=1)
    chaos.cluster.add()
    return f"lost a node with {len(ended)} trials and {len(lost)} EnvRunners of others"


def _ends_trial(process: Process) -> bool:
    return process.kind == TRIAL or process.is_learner


def kill_driver(chaos: Chaos) -> str:
    """The process of a sweep; the sweep is resumed when its trials have ended."""
    name = chaos.choice.choice(sorted(chaos.sweeps))
    sweep = chaos.sweeps[name]
    assert sweep.process is not None and sweep.process.poll() is None
    driver = sweep.process.pid
    sweep.process.kill()
    sweep.process.wait()
    wait_until(
        lambda: all(one.driver != driver for one in chaos.cluster.processes()),
        RECOVERY_S,
        lambda: f"the processes of {name} did not end with their driver",
    )
    sweep.resume()
    chaos.expect(name, resumed=1)
    return f"killed the driver of {name} and resumed it"


def fill_disk(chaos: Chaos) -> str:
    """The disk of all runs is full for some seconds."""
    begin = time.time()
    filler = chaos.storage / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 2**20)
            file.flush()
    time.sleep(_FULL_S)
    filler.unlink()
    chaos.full.append((begin, time.time()))
    for name, sweep in chaos.sweeps.items():
        if not sweep.is_over:
            chaos.expect(name, disk=1)
    return f"filled the disk for {_FULL_S:.0f} s"


#: Every fault, once a seed.
FAULTS: tuple[Callable[[Chaos], str], ...] = (
    kill_env_runner,
    kill_worker,
    kill_learner,
    kill_trial,
    freeze,
    lose_node,
    kill_driver,
    fill_disk,
)


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A disk in memory at ``path``; needs root."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
