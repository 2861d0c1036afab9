"""A cluster whose nodes are started by Ray's autoscaler, and taken away like spot machines."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private.authentication import authentication_token_setup as authentication
from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions  # type: ignore[attr-defined]
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG

from tests.cluster.clusters import end, free_port, is_listening, wait_for
from tests.experiment.faults.run_processes import descendants

#: A machine that the autoscaler may start: `CPUS` CPUs, at most `MOST` at a time.
CPUS, MOST = 2, 2

#: The autoscaler looks at the cluster once a second.
QUICKLY = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_AUTH_MODE": "token", "RAY_FAKE_CLUSTER": "1"}
QUICKLY |= {"RAY_worker_niceness": "0"}


class SpotMachines(FakeMultiNodeProvider):
    """The autoscaler's own stand-in for a cloud, which also says which machines are gone."""

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """The machines that run."""
        with self.lock:
            for name, machine in list(self._nodes.items()):
                if "node" in machine and not machine["node"].remaining_processes_alive():
                    machine["node"].kill_all_processes(check_alive=False, allow_graceful=False)
                    del self._nodes[name]
        return list(super().non_terminated_nodes(tag_filters))


class AutoscaledNodes:
    """A head node without CPUs; the autoscaler starts a node when something asks for CPUs."""

    def __init__(self, process: "subprocess.Popen[Any]", address: str) -> None:
        self._process, self.address = process, address
        self._state = GlobalState()
        self._state._initialize_global_state(
            GcsClientOptions.create(
                address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
            )
        )

    def with_cpus(self) -> list[str]:
        """The ids of the living nodes with CPUs."""
        table = self._state.node_table()
        return [node["NodeID"] for node in table if node["Alive"] and node["Resources"].get("CPU")]

    def homes(self) -> list[str]:
        """The ids of the nodes of the trials that run."""
        table = self._state.actor_table(None).values()
        found = [one for one in table if one["ActorClassName"] == "SpecTrainable"]
        return [one["Address"]["NodeID"] for one in found if one["State"] == "ALIVE"]

    def take_away(self, node_id: str) -> None:
        """Kills all processes of a node without a warning."""
        for pid in descendants(self._process.pid):
            with contextlib.suppress(OSError):
                if node_id.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)


def config(gcs_address: str) -> dict[str, Any]:
    """The configuration of the autoscaler: its nodes are raylets on this machine."""
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    spot = {"resources": {"CPU": CPUS}, "node_config": {}, "min_workers": 0, "max_workers": MOST}
    return {
        **BASE_READONLY_CONFIG,
        "cluster_name": "fake",
        "max_workers": MOST,
        "idle_timeout_minutes": 10,
        "provider": {
            "type": "external",
            "module": f"{__name__}.{SpotMachines.__name__}",
            "gcs_address": gcs_address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {"ray.head.default": head, "spot": spot},
    }


@contextlib.contextmanager
def autoscaled_cluster() -> Iterator[AutoscaledNodes]:
    """A cluster that has no node with CPUs until a run asks for them."""
    authentication.enable_token_auth_by_default()
    authentication.ensure_token_if_auth_enabled(create_token_if_missing=True)
    # The autoscaler imports this module.
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    port = free_port()
    address = f"127.0.0.1:{port}"
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as here:
        file = Path(here) / "autoscaler.yaml"
        file.write_text(json.dumps(config(address)))
        options = [f"--port={port}", "--num-cpus=0", f"--temp-dir={here}"]
        options += ["--node-ip-address=127.0.0.1", "--include-dashboard=false"]
        options += [f"--ray-client-server-port={free_port()}", f"--autoscaling-config={file}"]
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", *options],
            env={**os.environ, **QUICKLY, "PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: is_listening(port), lambda: process.poll() is None)
            yield AutoscaledNodes(process, address)
        finally:
            end(process)
