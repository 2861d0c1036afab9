"""The command line on clusters of several raylets: placement, lost nodes, refused runs."""

import itertools
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl import errors
from rlssl.run_files import MANIFEST
from tests.cluster.clusters import (
    PLUGIN,
    SLOW,
    Command,
    Nodes,
    can_unshare,
    head_node_with_token,
)
from tests.experiment.command_line import only_trial, results

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

needs_unshare = pytest.mark.skipif(not can_unshare(), reason="needs root for a mount namespace")

TRAIN = ["train", "ppo", "lab/Corridor", "--set", "plugins=[my_lab]", "--aux", "lab_small"]
#: For runs that must be refused; short, in case one is not.
SHORT = [*TRAIN, "--stop", "env_steps=1000"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    started = Nodes()
    try:
        yield started
    finally:
        started.shutdown()


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with a plug-in, outside the repository."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "my_lab.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def rlssl(lab: Path, nodes: Nodes) -> Iterator[Any]:
    commands: list[Command] = []

    def start(*arguments: str) -> Command:
        commands.append(Command(lab, *arguments, "--address", nodes.address))
        return commands[-1]

    yield start
    for command in commands:
        command.end()


def checkpoints(folder: Path) -> int:
    return len(list(folder.glob(f"checkpoint_*/{MANIFEST}")))


@pytest.mark.ci
def test_training_spreads_its_runners_and_survives_the_loss_of_a_node(
    nodes: Nodes, lab: Path, rlssl: Any
) -> None:
    both = nodes.only(3, 3)
    run = rlssl(*TRAIN, *SLOW, "--env-runners", "2", "--stop", "env_steps=25000", "--name", "run")
    run.wait_until(lambda: checkpoints(only_trial_or(lab)) >= 2)
    assert sorted(nodes.actors("VectorEnvRunner")) == sorted(both)
    (home,) = nodes.actors("SpecTrainable")
    (other,) = set(both) - {home}
    nodes.remove(other)
    # The EnvRunner of the dead node is restarted on a node with room.
    run.wait_until(lambda: nodes.actors("VectorEnvRunner") == [home, home])
    printed = run.finish()
    assert "marked dead" in printed and "Traceback" not in printed

    rows = results(only_trial(lab / "results" / "run"))
    assert {row["env_steps_at_start"] for row in rows} == {0}  # the trial never stopped
    assert 25000 <= rows[-1]["env_steps"] < 25000 + 2 * 512
    assert rows[0]["faults"]["env_runner_restarts"] == 0
    assert rows[-1]["faults"]["env_runner_restarts"] == 1
    assert rows[-1]["faults"]["episodes_abandoned"] == 8  # its environments
    assert rows[-1]["aux"]["lab_small"]["size"] > 0


def only_trial_or(lab: Path) -> Path:
    found = list((lab / "results" / "run").glob("*/trial.json"))
    return found[0].parent if found else lab


def test_a3c_continues_without_the_worker_of_a_lost_node_until_there_is_room_again(
    nodes: Nodes, lab: Path, rlssl: Any
) -> None:
    # One node for each of the three processes, so that the worker of a lost node has no room.
    nodes.only(1, 1, 1)
    run = rlssl(
        *("train", "a3c", "lab/Corridor", "--set", "plugins=[my_lab]", "--aux", "lab_small"),
        *("--set", "training.agent_steps_per_iteration=400", "--set", "env.pause_s=0.001"),
        *("--env-runners", "2", "--stop", "env_steps=100000000", "--name", "run"),
        *("--set", "report_every_s=0"),
    )

    def rows() -> list[dict[str, Any]]:
        file = only_trial_or(lab) / "result.json"
        complete = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in complete if line.endswith("\n")]

    def alive() -> list[int]:
        """Numbers of workers alive in the results, without repeats."""
        return [number for number, _ in itertools.groupby(row["workers_alive"] for row in rows())]

    run.wait_until(lambda: alive()[-1:] == [2])
    (home,) = nodes.actors("SpecTrainable")
    others = nodes.actors("VectorWorker")
    assert len({home, *others}) == 3
    nodes.remove(others[0])
    # The run notices the loss before the cluster does.
    run.wait_until(lambda: nodes.actors("VectorWorker") == others[1:])
    before = len(rows())
    run.wait_until(lambda: len(rows()) >= before + 5)
    assert {row["workers_alive"] for row in rows()[before:]} == {1}
    assert rows()[-1]["faults"]["worker_restarts"] == 0
    there = nodes.add(1)
    run.wait_until(lambda: alive()[-1:] == [2])
    assert sorted(nodes.actors("VectorWorker")) == sorted([there, others[1]])
    run.wait_until(lambda: sum(row["workers_alive"] == 2 for row in rows()[-5:]) == 5)
    run.process.send_signal(signal.SIGINT)
    printed = run.finish(130)
    assert "Traceback" not in printed

    told = rows()
    assert {row["env_steps_at_start"] for row in told} == {0}  # the trial never stopped
    assert alive()[-3:] == [2, 1, 2]
    assert all(one["updates"] < later["updates"] for one, later in itertools.pairwise(told))
    assert told[-1]["faults"]["worker_restarts"] == 1
    assert told[-1]["faults"]["worker_hangs"] == told[-1]["faults"]["worker_errors"] == 0
    # Fragments of 4 environments and 20 steps, or 21: what was heard, and no more.
    assert 80 <= told[-1]["env_steps"] / told[-1]["updates"] <= 84


def test_sweep_continues_after_the_loss_of_a_node_with_a_trial(
    nodes: Nodes, lab: Path, rlssl: Any
) -> None:
    both = nodes.only(1, 1)
    spec = {
        "algorithm": "ppo",
        "plugins": ["my_lab"],
        "env": {"id": "lab/Corridor", "pause_s": 0.001},
        "auxiliary": {"lab_small": {}},
        "search": {"auxiliary.lab_small.coeff": {"grid": [0.0, 0.1]}},
        "training": {"train_batch_size_per_learner": 512},
        "checkpoint": {"every_env_steps": 1000},
        "stop": {"env_steps": 20000},
    }
    (lab / "run.yaml").write_text(yaml.safe_dump(spec))
    sweep = rlssl("sweep", "run.yaml")
    folder = lab / "results" / "run"
    sweep.wait_until(lambda: sum(checkpoints(f) >= 2 for f in folder.glob("*")) == 2)
    assert sorted(nodes.actors("SpecTrainable")) == sorted(both)
    nodes.remove(both[0])
    printed = sweep.finish()
    assert "lost a process" in printed and "try 1 of 2" in printed

    trials = [results(path.parent) for path in folder.glob("*/trial.json")]
    assert all(20000 <= rows[-1]["env_steps"] < 20000 + 2 * 512 for rows in trials)
    starts = sorted(max(row["env_steps_at_start"] for row in rows) for rows in trials)
    assert starts[0] == 0 and starts[1] >= 1000  # one was restarted, the other never stopped


def test_trial_that_cannot_be_placed_is_refused_with_the_clusters_resources(
    nodes: Nodes, rlssl: Any
) -> None:
    nodes.only(3, 3)
    many = rlssl(*SHORT, "--env-runners", "6").finish(3)
    assert "needs 7 CPUs in 7 processes of up to 1 (resources)" in many
    assert "the cluster has 6 on 2 nodes, the largest 3; request fewer" in many
    large = rlssl(*SHORT, "--env-runners", "1", "--set", "resources.cpus_per_env_runner=4")
    assert "needs 5 CPUs in 2 processes of up to 4 (resources)" in large.finish(3)


@needs_unshare
def test_node_that_does_not_see_the_storage_is_named(
    nodes: Nodes, lab: Path, tmp_path: Path, rlssl: Any
) -> None:
    nodes.only(1)
    (tmp_path / "shared").mkdir()
    with nodes.blind_node(1, f"mount -t tmpfs none {tmp_path}/shared") as blind:
        run = rlssl(*SHORT, "--storage", str(tmp_path / "shared"))
        printed = run.finish(3)
    assert f"({blind[:8]}): does not see it; give such a folder: --storage" in printed
    assert printed.count("does not see it") == 1
    assert not list((tmp_path / "shared").glob("*/*/result.json"))


@needs_unshare
def test_plugin_is_sent_to_nodes_that_do_not_see_its_folder(
    nodes: Nodes, lab: Path, tmp_path: Path, rlssl: Any
) -> None:
    nodes.only(1)
    storage = ["--storage", str(tmp_path / "shared"), "--name", "run"]
    # Two processes on two nodes with one CPU each: one runs on the node without the plug-in.
    options = ["--env-runners", "1", "--stop", "env_steps=3000"]
    with nodes.blind_node(1, f"mount -t tmpfs none {lab}") as blind:
        run = rlssl(*TRAIN, *options, *storage)
        seen = set[str]()

        def has_ended() -> bool:
            seen.update(nodes.actors("VectorEnvRunner"), nodes.actors("SpecTrainable"))
            return run.process.poll() is not None

        run.wait_until(has_ended)
        printed = run.finish()
    assert f"Sending {lab / 'my_lab.py'} to every node" in printed
    assert blind in seen
    assert results(only_trial(tmp_path / "shared" / "run"))[-1]["env_steps"] >= 3000


@needs_unshare
def test_node_with_another_source_of_rlssl_is_named(
    nodes: Nodes, lab: Path, tmp_path: Path, rlssl: Any
) -> None:
    source = Path(errors.__file__)
    other = tmp_path / "errors.py"
    other.write_text(source.read_text() + "\n# of another commit\n")
    nodes.only(1)
    with nodes.blind_node(1, f"mount --bind {other} {source}") as blind:
        printed = rlssl(*SHORT).finish(3)
    assert (
        f"({blind[:8]}): rlssl's source" in printed and "install the same version there" in printed
    )


def test_listener_that_is_not_a_cluster_is_refused_at_once(lab: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        printed = Command(lab, *SHORT, "--address", address).finish(3)
    assert f"no Ray cluster at address '{address}'" in printed
    assert "ray start --head" in printed and "Traceback" not in printed


@needs_unshare
def test_late_node_that_does_not_see_the_storage_gets_no_further_trial(
    nodes: Nodes, lab: Path, tmp_path: Path, rlssl: Any
) -> None:
    nodes.only(1)
    shared = tmp_path / "shared"
    shared.mkdir()
    spec: dict[str, Any] = {"algorithm": "ppo", "env": "lab/Corridor", "plugins": ["my_lab"]}
    spec |= {"seeds": [0, 1, 2, 3, 4, 5], "stop": {"env_steps": 8000}}
    spec |= {"name": "run", "storage": str(shared)}
    (lab / "late.yaml").write_text(yaml.safe_dump(spec))
    run = rlssl("sweep", "late.yaml", *SLOW)
    # The survey of the nodes is over when the first trial runs.
    run.wait_until(lambda: list(shared.glob("run/*/result.json")))
    with nodes.blind_node(2, f"mount -t tmpfs none {shared}") as blind:
        printed = run.finish()
    assert f"({blind[:8]}) cannot run this trial: storage: it does not see it" in printed
    assert f"Node {blind[:8]} has failed 2 trials" in printed
    trials = list(shared.glob("run/*/trial.json"))
    assert len(trials) == 6
    assert all(results(trial.parent)[-1]["env_steps"] >= 8000 for trial in trials)


def test_cluster_that_was_started_with_a_token_is_used_without_a_variable(
    lab: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/clusters.md says: ``RAY_AUTH_MODE`` is set for `ray start` only."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    homes = {}
    for whose, letter in (("user", "a"), ("stranger", "b")):
        homes[whose] = tmp_path_factory.mktemp(whose)
        token = homes[whose] / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text(64 * letter)
        token.chmod(0o600)
    monkeypatch.setenv("HOME", str(homes["user"]))
    with head_node_with_token(num_cpus=1) as address:
        command = [*TRAIN, "--stop", "env_steps=1000", "--address", address]
        printed = Command(lab, *command).finish()
        monkeypatch.setenv("HOME", str(homes["stranger"]))
        refused = Command(lab, *command).finish(3)
    assert "over the last" in printed and "Token" not in printed
    run = lab / "results" / "ppo-lab-Corridor"
    assert results(only_trial(run))[-1]["env_steps"] >= 1000
    assert f"the Ray cluster at address '{address}' needs another token" in refused
    assert "Traceback" not in refused
