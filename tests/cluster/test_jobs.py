"""Commands inside a job of `ray job submit`, and folders of plug-ins that travel to every node."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.clusters import (
    PLUGIN,
    Command,
    Nodes,
    can_unshare,
    end,
    free_port,
    is_listening,
    wait_for,
)
from tests.experiment.command_line import only_trial, results

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

#: Plug-ins that read a file beside them, and a variable of the job.
CODE = """
import os
from pathlib import Path

assert Path(__file__).with_name("cells.txt").read_text() == "4"
assert os.environ["OF_THE_JOB"] == "yes"
assert os.environ["PYTHONPATH"]
"""

SPEC: dict[str, Any] = {
    "algorithm": "ppo",
    "plugins": ["my_lab"],
    "plugins_path": ["code"],
    "env": "lab/Corridor",
    "resources": {"env_runners": 1},
    "stop": {"env_steps": 3000},
    "name": "run",
}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A spec, and beside it a folder with plug-ins."""
    folder = tmp_path / "lab"
    (folder / "specs" / "code").mkdir(parents=True)
    (folder / "specs" / "code" / "my_lab.py").write_text(CODE + PLUGIN)
    (folder / "specs" / "code" / "cells.txt").write_text("4")
    spec = {**SPEC, "storage": str(tmp_path / "shared")}
    (folder / "specs" / "run.yaml").write_text(yaml.safe_dump(spec))
    return folder


@pytest.mark.skipif(not can_unshare(), reason="needs root for a mount namespace")
def test_a_job_keeps_its_environment_and_plugins_reach_a_node_without_their_folder(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `ray job submit` does for its driver; Ray refused the second PYTHONPATH.
    variables = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "OF_THE_JOB": "yes"}
    job = {"runtime_env": {"env_vars": variables}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    monkeypatch.setenv("OF_THE_JOB", "yes")
    nodes = Nodes()
    monkeypatch.delenv("OF_THE_JOB")  # nodes inherit variables, and must get this one from the job
    command = None
    try:
        nodes.only(1)
        # Two processes on two nodes with one CPU each: one is where the folder is not.
        with nodes.blind_node(1, f"mount -t tmpfs none {lab}") as blind:
            monkeypatch.setenv("OF_THE_JOB", "yes")
            command = Command(lab, "sweep", "specs/run.yaml", "--address", nodes.address)
            seen = set[str]()

            def has_ended() -> bool:
                seen.update(nodes.actors("VectorEnvRunner"), nodes.actors("SpecTrainable"))
                return command.process.poll() is not None

            command.wait_until(has_ended, patience_s=300)
            command.finish()
    finally:
        if command is not None:
            command.end()
        nodes.shutdown()
    assert blind in seen
    assert results(only_trial(tmp_path / "shared" / "run"))[-1]["env_steps"] >= 3000


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The dashboard of a cluster of one node, which takes jobs with a token only."""
    token = tmp_path / "token"
    token.write_text(64 * "a")
    token.chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("PATH", f"{lab_commands(tmp_path)}{os.pathsep}{os.environ['PATH']}")
    port, dashboard_port = free_port(), free_port()
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    ray += [f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    ray += [f"--dashboard-port={dashboard_port}", f"--ray-client-server-port={free_port()}"]
    ray += [f"--dashboard-agent-listen-port={free_port()}"]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        process = subprocess.Popen(
            [*ray, f"--temp-dir={folder}"],
            env={**os.environ, "RAY_AUTH_MODE": "token"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: is_listening(dashboard_port), lambda: process.poll() is None)
            yield f"http://127.0.0.1:{dashboard_port}"
        finally:
            end(process)


def lab_commands(folder: Path) -> Path:
    """A folder with the commands ``rlssl`` and ``ray`` of this Python."""
    commands = folder / "bin"
    commands.mkdir()
    for name, module in (("rlssl", "rlssl.cli"), ("ray", "ray.scripts.scripts")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (commands / name).chmod(0o755)
    return commands


@pytest.mark.skipif(
    importlib.util.find_spec("opencensus") is None, reason="needs the extra cluster"
)
def test_submit_runs_a_sweep_with_plugins_as_a_job(
    lab: Path, tmp_path: Path, dashboard: str
) -> None:
    code = lab / "specs" / "code" / "my_lab.py"
    code.write_text(PLUGIN)
    words = ["submit", "--address", dashboard, "--run", "sweep", "specs/run.yaml"]
    printed = Command(lab, *words).finish()
    assert printed.startswith("RAY_AUTH_MODE=token ray job submit --address http://127.0.0.1:")
    assert "succeeded" in printed
    assert results(only_trial(tmp_path / "shared" / "run"))[-1]["env_steps"] >= 3000
