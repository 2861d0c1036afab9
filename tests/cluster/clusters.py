"""Ray clusters of several raylets on this machine, and the command line for them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private.authentication import authentication_token_setup as authentication
from ray.cluster_utils import Cluster

from tests.experiment.faults.run_processes import descendants

#: Seconds to wait for nodes, actors and files.
PATIENCE_S = 120.0

#: Small batches and environments that sleep, so that the run lasts until a node is lost.
SLOW = ["--set", "training.train_batch_size_per_learner=512", "--set", "env.pause_s=0.001"]
SLOW += ["--set", "checkpoint.every_env_steps=2000"]

PLUGIN = """
from dataclasses import dataclass
import time

import gymnasium as gym
import numpy as np

import rlssl
from rlssl.auxiliary import AuxiliaryLoss, AuxiliaryLossConfig


class Corridor(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self.cell, self.pause_s = 0, config.get("pause_s", 0)

    def reset(self, *, seed=None, options=None):
        self.cell = 0
        return np.eye(4, dtype=np.float32)[0], {}

    def step(self, action):
        time.sleep(self.pause_s)
        self.cell = min(3, max(0, self.cell + 2 * int(action) - 1))
        done = self.cell == 3
        return np.eye(4, dtype=np.float32)[self.cell], float(done), done, False, {}


@rlssl.register_auxiliary_loss("lab_small")
class Small(AuxiliaryLoss):
    @dataclass(frozen=True)
    class Config(AuxiliaryLossConfig):
        pass

    reads = frozenset({"obs"})

    def losses(self, batch):
        return {"size": self.encoder(batch["obs"]).abs().mean(-1)}


rlssl.register_env("lab/Corridor", Corridor)
"""


class Nodes:
    """A head node without CPUs, to which commands connect, and nodes that can be lost."""

    def __init__(self) -> None:
        # As docs/clusters.md says; otherwise Ray's processes run at low priority.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # As `ray.init()` of a local cluster does.
        authentication.enable_token_auth_by_default()
        authentication.ensure_token_if_auth_enabled(create_token_if_missing=True)
        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._node_of: dict[str, Any] = {}

    def add(self, num_cpus: int) -> str:
        """Starts a raylet; returns the id of its node."""
        node = self._cluster.add_node(num_cpus=num_cpus)
        self._node_of[node.node_id] = node
        return str(node.node_id)

    def remove(self, node_id: str) -> None:
        """Kills a raylet and all processes on its node."""
        self._cluster.remove_node(self._node_of.pop(node_id), allow_graceful=False)

    def only(self, *num_cpus: int) -> list[str]:
        """Replaces all nodes by new ones with these numbers of CPUs; returns their ids."""
        for node_id in list(self._node_of):
            self.remove(node_id)
        started = [self.add(cpus) for cpus in num_cpus]
        wait_for(lambda: len(self.alive()) == 1 + len(num_cpus))
        return started

    def alive(self) -> list[str]:
        return [node["NodeID"] for node in self._cluster.global_state.node_table() if node["Alive"]]

    def actors(self, class_name: str) -> list[str]:
        """The node of each living actor of a class."""
        table = self._cluster.global_state.actor_table(None).values()
        found = [entry for entry in table if entry["ActorClassName"] == class_name]
        return [entry["Address"]["NodeID"] for entry in found if entry["State"] == "ALIVE"]

    @contextlib.contextmanager
    def blind_node(self, num_cpus: int, preparation: str) -> Iterator[str]:
        """A node with its own view of the file system, like a separate machine.

        Args:
            num_cpus: Number of CPUs of the node.
            preparation: Shell command to run in the mount namespace of the node first.
        """
        before = set(self.alive())
        ray = Path(sys.executable).with_name("ray")
        start = f"exec {ray} start --address={self.address} --num-cpus={num_cpus} --block"
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"{preparation} && {start}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: len(set(self.alive()) - before) == 1 or process.poll() is not None)
            (node_id,) = set(self.alive()) - before
            yield node_id
        finally:
            end(process)
            wait_for(lambda: not set(self.alive()) - before)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@contextlib.contextmanager
def head_node_with_token(num_cpus: int) -> Iterator[str]:
    """A cluster of one node that asks for the token in ``~/.ray/auth_token``; its address."""
    port, client_port = free_port(), free_port()
    ray = Path(sys.executable).with_name("ray")
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        options = [f"--port={port}", f"--num-cpus={num_cpus}", f"--temp-dir={folder}"]
        options += ["--node-ip-address=127.0.0.1", "--include-dashboard=false"]
        options += [f"--ray-client-server-port={client_port}"]
        process = subprocess.Popen(
            [ray, "start", "--head", "--block", *options],
            env={**os.environ, "RAY_AUTH_MODE": "token"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: is_listening(port), lambda: process.poll() is None)
            yield f"127.0.0.1:{port}"
        finally:
            end(process)


def free_port() -> int:
    """A port of this machine that no process uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a process accepts connections at a port; on this machine by default."""
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), timeout=1).close()
        return True
    return False


def can_unshare() -> bool:
    """Whether this user may create mount namespaces."""
    command = ["unshare", "-m", "true"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, capture_output=True).returncode
    )


class Command:
    """``rlssl`` in a separate process."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self.folder = cwd
        self._output = (cwd / f"output-{time.monotonic_ns()}.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlssl.cli", *arguments],
            cwd=cwd,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def printed(self) -> str:
        return Path(self._output.name).read_text()

    def finish(self, code: int = 0, patience_s: float = 300) -> str:
        """Waits for the exit code ``code``; returns the output."""
        self.process.wait(timeout=patience_s)
        assert self.process.returncode == code, self.printed()
        return self.printed()

    def wait_until(self, condition: Any, patience_s: float = PATIENCE_S) -> None:
        """Waits for ``condition``; the command must keep running meanwhile."""
        wait_for(condition, lambda: self.process.poll() is None, self.printed, patience_s)

    def end(self) -> None:
        end(self.process)
        self._output.close()


def wait_for(
    condition: Any,
    meanwhile: Any = lambda: True,
    words: Any = lambda: "",
    patience_s: float = PATIENCE_S,
) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert meanwhile() and time.monotonic() < deadline, words()
        time.sleep(0.1)


def end(process: "subprocess.Popen[Any]") -> None:
    """Ends a process and all that it started."""
    below = descendants(process.pid) if process.poll() is None else []
    for pid in [*([process.pid] if below or process.poll() is None else []), *below]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
