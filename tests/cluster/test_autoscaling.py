"""Runs on clusters that grow and shrink: nodes start when a run asks, and are taken away again."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.analysis.faults import noted_faults
from rlssl.run_files import MANIFEST
from tests.cluster.autoscaling import autoscaled_cluster
from tests.cluster.clusters import PLUGIN, Command, Nodes
from tests.experiment.command_line import results

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def write_sweep(folder: Path, **changes: Any) -> None:
    (folder / "my_lab.py").write_text(PLUGIN)
    spec = {
        "name": "run",
        "algorithm": "ppo",
        "plugins": ["my_lab"],
        "env": {"id": "lab/Corridor", "pause_s": 0.001},
        "training": {"train_batch_size_per_learner": 256},
        "checkpoint": {"every_env_steps": 1000},
        "max_failures": 2,
        "report_every_s": 0,
        "stop": {"env_steps": 20_000},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump({**spec, **changes}))


def newest(folder: Path) -> int:
    """Env steps of the newest checkpoint of the only trial; 0 without one."""
    manifests = folder.glob(f"results/run/*/checkpoint_*/{MANIFEST}")
    return max((json.loads(path.read_text())["env_steps"] for path in manifests), default=0)


class PatientCommand(Command):
    """A command on a cluster whose nodes start and end meanwhile."""

    def wait_until(self, condition: Any, patience_s: float = 400) -> None:
        super().wait_until(condition, patience_s)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Any]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(PatientCommand(tmp_path, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.end()


def test_sweep_waits_for_the_autoscaler_and_survives_three_losses_of_its_node(
    tmp_path: Path, commands: Any
) -> None:
    write_sweep(tmp_path)
    with autoscaled_cluster() as nodes:
        refused = commands("sweep", "run.yaml", "--address", nodes.address).finish(3)
        assert "needs 1 CPUs (resources), but the cluster has 0" in refused
        assert "or wait for them: --wait-for-nodes" in refused
        assert not nodes.with_cpus()
        run = commands("sweep", "run.yaml", "--address", nodes.address, "--wait-for-nodes")
        for _ in range(3):
            before = newest(tmp_path)
            run.wait_until(lambda before=before: newest(tmp_path) > before)
            (home,) = nodes.homes()
            nodes.take_away(home)
            run.wait_until(lambda home=home: home not in nodes.with_cpus())
        printed = run.finish()
    assert "Waiting for nodes: a trial needs 1 CPUs (resources), but the cluster has 0." in printed
    assert printed.count("try 1 of 2 since its last new checkpoint") == 3
    rows = results(next(tmp_path.glob("results/run/*/result.json")).parent)
    assert 20_000 <= rows[-1]["env_steps"] < 20_000 + 256
    starts = sorted({row["env_steps_at_start"] for row in rows})
    assert starts[0] == 0 and len(starts) == 4 and starts[1] >= 1000


def test_trial_of_a_drained_node_saves_first_and_continues_elsewhere_without_a_loss(
    tmp_path: Path, commands: Any
) -> None:
    # No checkpoint is due by itself, and no failure is allowed.
    write_sweep(tmp_path, checkpoint={"every_env_steps": 10**6}, max_failures=0)
    nodes = Nodes()
    try:
        (home,) = nodes.only(1)
        run = commands("sweep", "run.yaml", "--address", nodes.address)
        run.wait_until(lambda: list(tmp_path.glob("results/run/*/result.json")))
        other = nodes.add(1)
        drain(nodes.address, home)
        run.wait_until(lambda: nodes.actors("SpecTrainable") == [other])
        saved = newest(tmp_path)
        nodes.remove(home)
        printed = run.finish()
    finally:
        nodes.shutdown()
    assert f"left its node and continues from {saved:,} env steps: node {home[:8]} is dr" in printed
    rows = results(next(tmp_path.glob("results/run/*/result.json")).parent)
    # No step is repeated.
    assert {row["env_steps_at_start"] for row in rows} == {0, saved}
    steps = [row["env_steps"] for row in rows]
    assert steps == sorted(set(steps)) and saved in steps
    assert [note.kind for note in noted_faults(tmp_path / "results" / "run")] == ["drained"]


def drain(address: str, node_id: str) -> None:
    """What a cloud's notice of preemption leads to."""
    ray = str(Path(sys.executable).with_name("ray"))
    reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
    deadline = "--deadline-remaining-seconds=120"
    command = [ray, "drain-node", f"--address={address}", f"--node-id={node_id}", *reason, deadline]
    subprocess.run(command, check=True, capture_output=True)
