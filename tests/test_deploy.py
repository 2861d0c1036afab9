"""The files in deploy/: what can be checked without a cluster."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from rlssl.cli import main

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"

#: Writes its arguments, one a line.
RECORDER = '#!/bin/sh\nprintf "%s\\n" "$0" "$@" >>"$RECORD"\n'


def rayjob() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())["spec"]
    return found


@pytest.fixture
def run_entry_point(tmp_path: Path) -> Any:
    """Runs the entry point of the RayJob, as Ray does.

    The function returns rlssl's arguments, and how often the entry point slept.
    """
    for name in ("rlssl", "sleep"):
        (tmp_path / name).write_text(RECORDER)
        (tmp_path / name).chmod(0o755)

    def run() -> tuple[list[str], int]:
        record = tmp_path / "record"
        record.unlink(missing_ok=True)
        variables = yaml.safe_load(rayjob()["runtimeEnvYAML"])["env_vars"]
        variables |= {"STORAGE": str(tmp_path), "RECORD": str(record)}
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        command = rayjob()["entrypoint"]
        subprocess.run(command, shell=True, check=True, env={**variables, "PATH": path})
        _, *words = record.read_text().split(f"{tmp_path}/")
        calls = [call.split("\n")[:-1] for call in words if call.startswith(("rlssl", "sleep"))]
        return next(call for call in calls if call[0] == "rlssl")[1:], len(calls) - 1

    return run


def test_rayjob_starts_a_run_and_continues_it_on_a_new_cluster(
    tmp_path: Path, run_entry_point: Any
) -> None:
    words, sleeps = run_entry_point()
    assert words[:2] == ["sweep", "/results/specs/my_sweep.yaml"]
    assert words[2:4] == ["--set", "name=my-sweep"]
    assert words[-3:] == ["--address", "auto", "--wait-for-nodes"]
    assert sleeps == 0
    (tmp_path / "my-sweep").mkdir()
    (tmp_path / "my-sweep" / "points.json").touch()
    words, sleeps = run_entry_point()
    assert words[:2] == ["resume", "my-sweep"] and sleeps == 0
    with main.commands["resume"].make_context("resume", words[1:]) as parsed:
        assert parsed.params["address"] == "auto"
    (tmp_path / "my-sweep" / "lock.json").touch()  # of a head that was lost
    _, sleeps = run_entry_point()
    assert sleeps == 1


def test_rayjob_asks_for_a_token_and_keeps_trials_off_the_head() -> None:
    cluster = rayjob()["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_ray_accepts_the_cluster_on_aws() -> None:
    config = prepare_config(yaml.safe_load((DEPLOY / "ray-up-aws.yaml").read_text()))
    validate_config(config)
    started = " ".join(config["head_start_ray_commands"] + config["worker_start_ray_commands"])
    assert started.count("RAY_AUTH_MODE=token") == 2
    assert "dashboard-host" not in started  # Ray's own defaults open the dashboard to everybody
    assert "pip install -U" not in " ".join(config["setup_commands"])  # nor another Ray
    markets = {
        name: kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        for name, kind in config["available_node_types"].items()
    }
    assert markets == {"head": None, "spot": "spot"}


def test_image_installs_extras_that_exist() -> None:
    given = re.search(r"^ARG EXTRAS=(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert given is not None
    assert set(given[1].split(",")) <= set(project["optional-dependencies"])


def test_slurm_script_is_a_script_that_needs_a_command() -> None:
    script = str(DEPLOY / "slurm.sbatch")
    subprocess.run(["bash", "-n", script], check=True)
    environment = {"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": "/", "SLURM_JOB_ID": "1"}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.startswith("usage: sbatch")
