"""A cluster of several raylets on this machine, and the processes of the runs on it."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._private.authentication import authentication_token_setup as authentication
from ray.cluster_utils import Cluster

#: Classes of Ray's actors: a trial, and its EnvRunners and Learners.
TRIAL = "SpecTrainable"
RUNNERS = ("VectorEnvRunner", "VectorWorker")


@dataclass(frozen=True)
class Process:
    """A living actor of a run.

    Args:
        kind: Its class.
        pid: Its process.
        node: The id of its node.
        driver: The process of the run's driver.
        trial: The port of its trial's process, which tells trials apart.
    """

    kind: str
    pid: int
    node: str
    driver: int
    trial: int

    @property
    def is_learner(self) -> bool:
        # Ray Train runs RLlib's Learners in actors of this class.
        return self.kind.endswith("_WrappedExecutable")


class Raylets:
    """A head node without CPUs, and nodes that can be lost."""

    def __init__(self, num_nodes: int, num_cpus: int) -> None:
        os.environ.setdefault("RAY_worker_niceness", "0")
        authentication.enable_token_auth_by_default()
        authentication.ensure_token_if_auth_enabled(create_token_if_missing=True)
        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._num_cpus = num_cpus
        self._nodes: dict[str, Any] = {}
        self.address: str = self._cluster.address
        for _ in range(num_nodes):
            self.add()

    def add(self) -> None:
        """Starts a node."""
        node = self._cluster.add_node(num_cpus=self._num_cpus)
        self._nodes[node.node_id] = node

    def remove(self, node_id: str) -> None:
        """Kills a raylet and all processes on its node."""
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)

    def processes(self) -> list[Process]:
        """The actors of all runs that are alive, and not frozen."""
        state = self._cluster.global_state
        drivers = {job["JobID"]: job["DriverPid"] for job in state.job_table()}
        found = []
        for actor in state.actor_table(None).values():
            if actor["State"] != "ALIVE" or not is_running(actor["Pid"]):
                continue
            kind, home = actor["ActorClassName"], actor["Address"]
            trial = home if kind == TRIAL else actor["OwnerAddress"]
            driver = drivers[actor["JobID"]]
            found.append(Process(kind, actor["Pid"], home["NodeID"], driver, trial["Port"]))
        return found

    def close(self) -> None:
        self._cluster.shutdown()


@contextlib.contextmanager
def raylets(num_nodes: int, num_cpus: int) -> Iterator[Raylets]:
    cluster = Raylets(num_nodes, num_cpus)
    try:
        yield cluster
    finally:
        cluster.close()


def is_running(pid: int) -> bool:
    """Whether a process is there, and neither frozen nor about to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "TZX"


def kill(process: Process, how: int = signal.SIGKILL) -> None:
    """Signals a process that must be running.

    Raises:
        RuntimeError: If it is not.
    """
    if not is_running(process.pid):
        raise RuntimeError(f"{process} had ended before it was hit")
    os.kill(process.pid, how)


def wait_until(condition: Callable[[], bool], limit_s: float, words: Callable[[], str]) -> None:
    """Waits for a condition.

    Raises:
        TimeoutError: If it does not hold in time; says ``words()``.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(words())
        time.sleep(0.2)
