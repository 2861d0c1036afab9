"""The checks of nodes before a run, tested without a cluster."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from rlssl.errors import ResourceError
from rlssl.experiment.cluster.node_survey import (
    Report,
    Survey,
    differences,
    report,
    to_ship,
    versions,
)
from rlssl.experiment.cluster.placement import is_spread, require_room, spread
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.tuning.callbacks import Waiting

RUNNERS = [{"CPU": 1.0}, {"CPU": 4.0}, {"CPU": 4.0}]


def test_trial_fits_if_each_of_its_processes_fits_on_a_node() -> None:
    require_room(RUNNERS, [{"CPU": 5.0}, {"CPU": 4.0}])
    require_room(RUNNERS, [{"CPU": 4.0}, {"CPU": 4.0}, {"CPU": 1.0}])
    # The process without a GPU is placed on the node without GPUs, in any order of the nodes.
    require_room([{"CPU": 1}, {"CPU": 1, "GPU": 1}], [{"CPU": 1, "GPU": 1}, {"CPU": 1}])


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ([8.0], "but the cluster has 8;"),
        # Nine CPUs in total, but no node of 3 CPUs has room for a process of 4.
        ([3.0, 3.0, 3.0], "but the cluster has 9 on 3 nodes, the largest 3;"),
        # The first process of 4 leaves 3 of 7; neither 3 nor 2 has room for the second.
        ([7.0, 2.0], "but the cluster has 9 on 2 nodes, the largest 7;"),
    ],
)
def test_trial_that_does_not_fit_is_refused_with_numbers(cluster: list[float], words: str) -> None:
    with pytest.raises(ResourceError) as refused:
        require_room(RUNNERS, [{"CPU": cpus} for cpus in cluster])
    needed = "a trial needs 9 CPUs in 3 processes of up to 4 (resources), "
    assert str(refused.value).startswith(needed + words)


def test_single_trial_is_spread_and_trials_of_a_sweep_are_packed() -> None:
    document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1}}
    assert is_spread(load_spec(document))
    assert not is_spread(load_spec({**document, "seeds": [0, 1]}))
    assert not is_spread(load_spec({**document, "resources": {"learners": 2}}))


def test_spread_keeps_the_trials_own_bundle_the_smallest() -> None:
    request = spread(tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}, {"CPU": 2, "GPU": 1}]))
    assert request.strategy == "SPREAD"
    assert request.bundles == [
        {"CPU": 1},
        {"CPU": 1, "memory": 1},
        {"CPU": 2, "GPU": 1, "memory": 1},
    ]


def test_versions_are_compared_without_the_build_for_cpu_or_gpu() -> None:
    own = {"torch": "2.13.0", "rlssl": "1.0", "mujoco": "3.10.0"}
    assert differences(own, {**own}) == ""
    assert differences(own, {**own, "rlssl": "1.1", "mujoco": "missing"}) == (
        "rlssl 1.1 is not 1.0, mujoco missing is not 3.10.0"
    )
    assert differences(own, {**own, "mujoco": "missing"}, ("torch", "rlssl")) == ""
    assert "+" not in "".join(versions().values())


def test_nodes_that_differ_are_refused_or_noted(capsys: pytest.CaptureFixture[str]) -> None:
    own, there = versions(), Path("/there")
    Survey({"node a": Report(own)}).require(there, own)
    assert capsys.readouterr().err == ""
    Survey({"node a": Report({**own, "mujoco": "0"})}, {"node b": "gone."}).require(there, own)
    assert capsys.readouterr().err == (
        f"note: node a: mujoco 0 is not {own['mujoco']}.\nnote: node b was not checked: gone.\n"
    )
    reports = {f"node {name}": Report({**own, "torch": "0"}) for name in "abcd"}
    with pytest.raises(ResourceError, match=r"node a: torch 0 is not .*node c.*; and 1 more nodes"):
        Survey(reports).require(there, own)


def test_a_torch_for_cpus_on_a_node_with_gpus_is_refused_if_trials_need_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr("torch.version.hip", None, raising=False)
    monkeypatch.setattr("torch.__version__", "2.13.0+cpu")
    found = report(str(marker), [], num_gpus=2)
    assert found.gpus == "Ray counts 2 GPUs there, and its torch 2.13.0+cpu is for CPUs only"
    survey = Survey({"node a": found, "node b": report(str(marker), [], num_gpus=0)})
    survey.require(tmp_path, versions())
    assert capsys.readouterr().err == f"note: node a: {found.gpus}.\n"
    with pytest.raises(ResourceError, match=r"^node a: Ray counts 2 GPUs.*install a torch") as no:
        survey.require(tmp_path, versions(), needs_gpus=True)
    assert "node b" not in str(no.value)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert report(str(marker), [], num_gpus=2).gpus == ""


def test_report_repeats_the_error_of_the_failed_check(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert report(str(marker), [], timeout_s=0.2).storage == "does not see it"
    marker.touch()
    assert report(str(marker), []) == Report(versions())
    assert "no module 'my_absent_lab' on the path" in report(str(marker), ["my_absent_lab"]).plugins


def test_plugins_in_the_runs_folder_are_sent_and_installed_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").touch()
    (tmp_path / "two").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    expected = [str(tmp_path / "one.py"), str(tmp_path / "two")]
    assert to_ship(["one", "two.a", "two.b", "rlssl_envs"]) == expected


class WaitingOnBusyCluster(Waiting):
    """Waits no time, on a cluster whose two CPUs are taken."""

    after_s = 0.0
    period_s = 0.0
    starting = False

    def cpus(self) -> tuple[float, float]:
        return 0.0, 2.0

    def is_starting(self) -> bool:
        return self.starting


def test_waiting_for_resources_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    request = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 2}])
    pending: Any = SimpleNamespace(status="PENDING", placement_group_factory=request)
    running: Any = SimpleNamespace(status="RUNNING", placement_group_factory=request)
    waiting = WaitingOnBusyCluster()
    for _ in range(3):
        waiting.on_step_end(0, [pending, running])
    waiting.starting = True
    for _ in range(3):
        waiting.on_step_end(0, [pending])
    assert capsys.readouterr().err == ""
    waiting.starting = False
    for _ in range(3):
        waiting.on_step_end(0, [pending])
    assert capsys.readouterr().err == (
        "No trial is running: each needs 3 CPUs, and 0 of the cluster's 2 are free. Waiting.\n"
    )
