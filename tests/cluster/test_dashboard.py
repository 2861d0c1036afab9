"""deploy/grafana.json: every query has data while a real run trains on a cluster."""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.clusters import Command, end, free_port, is_listening, wait_for

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus"),
    pytest.mark.skipif(
        importlib.util.find_spec("opencensus") is None, reason="needs the extra cluster"
    ),
]

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana.json"

#: Two trials that train until the test has seen their series.
SWEEP: dict[str, Any] = {
    "algorithm": "ppo",
    "env": "CartPole-v1",
    "seeds": [0, 1],
    "stop": {"env_steps": 100_000_000},
    "report_every_s": 1,
    "name": "run",
}


def queries() -> list[str]:
    """Every expression of the dashboard, for all runs."""
    document = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in document["panels"] for target in panel["targets"]]
    return [expression.replace("$run", ".*") for expression in found]


@contextlib.contextmanager
def started(command: list[str], **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        end(process)


@contextlib.contextmanager
def cluster(metrics_port: int) -> Iterator[str]:
    """A node that exports metrics; its address."""
    port = free_port()
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    ray += [f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    ray += [f"--metrics-export-port={metrics_port}", f"--dashboard-port={free_port()}"]
    ray += [f"--ray-client-server-port={free_port()}"]
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder,
        started([*ray, f"--temp-dir={folder}"], RAY_AUTH_MODE="token") as process,
    ):
        wait_for(lambda: is_listening(port), lambda: process.poll() is None)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def prometheus(folder: Path, metrics_port: int) -> Iterator[str]:
    """Prometheus, which asks the node every second; its address."""
    target = {"targets": [f"127.0.0.1:{metrics_port}"]}
    jobs = [{"job_name": "ray", "static_configs": [target]}]
    configuration = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    options += [f"--web.listen-address=127.0.0.1:{port}"]
    with started(["prometheus", *options]) as process:
        wait_for(lambda: is_listening(port), lambda: process.poll() is None)
        yield f"127.0.0.1:{port}"


def series(address: str, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers to a query."""
    words = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{words}") as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def test_every_query_of_the_dashboard_has_a_series_of_a_real_run(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SWEEP))
    metrics_port = free_port()
    with cluster(metrics_port) as node, prometheus(tmp_path, metrics_port) as address:
        run = Command(tmp_path, "sweep", "run.yaml", "--address", node)
        try:
            deadline = time.monotonic() + 200
            while empty := [one for one in queries() if not series(address, one)]:
                assert run.process.poll() is None, run.printed()
                assert time.monotonic() < deadline, empty
                time.sleep(1)
            running = series(address, 'ray_rlssl_trials{run="run", state="running"}')
            assert [one["value"][1] for one in running] == ["2"]
            (speed,) = series(address, "sum by (run) (ray_rlssl_env_steps_per_s)")
            assert speed["metric"] == {"run": "run"} and float(speed["value"][1]) > 0
        finally:
            run.end()
    assert len(queries()) > 10
