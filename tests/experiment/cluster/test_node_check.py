"""The check of a trial's node, and nodes that fail it again and again."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.experiment import Trial

from rlssl.errors import NodeError
from rlssl.experiment.cluster.node_check import problem
from rlssl.experiment.cluster.node_survey import Report
from rlssl.experiment.tuning.retries import Quarantine, came_from_outside, without_nodes

VERSIONS = {
    name: "1.0"
    for name in ("python", "ray", "torch", "gymnasium", "numpy", "rlssl", "rlssl's source")
}


@pytest.mark.parametrize(
    "report, words",
    [
        (Report(VERSIONS), ""),
        (Report(VERSIONS, storage="does not see it"), "storage: it does not see it: /nfs/run"),
        (Report(VERSIONS, plugins="no module 'lab'."), "no module 'lab'"),
        (Report({**VERSIONS, "torch": "0.9"}), "torch 0.9 is not 1.0"),
    ],
)
def test_the_defect_is_said(report: Report, words: str) -> None:
    assert problem(report, VERSIONS, "/nfs/run") == words


def test_error_survives_pickling_and_is_retried() -> None:
    error = pickle.loads(
        pickle.dumps(NodeError("node 10.0.0.2 (ab) cannot run this trial", "ab12"))
    )
    assert (str(error), error.node_id) == ("node 10.0.0.2 (ab) cannot run this trial", "ab12")
    assert came_from_outside(error)


def failed_on(folder: Path, node_id: str, number: int = 1) -> Any:
    path = folder / f"{node_id}.pkl"
    path.write_bytes(pickle.dumps(NodeError(f"node {node_id}", node_id)))
    request = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 2}], strategy="PACK")
    return SimpleNamespace(
        trial_id=str(number),
        status=Trial.PENDING,
        pickled_error_file=str(path),
        placement_group_factory=request,
        run_metadata=SimpleNamespace(num_failures=1),
        storage=SimpleNamespace(experiment_fs_path=str(folder)),
    )


def nodes(*node_ids: str) -> list[dict[str, Any]]:
    return [{"NodeID": each, "Alive": True, "Resources": {"CPU": 2}} for each in node_ids]


def test_node_that_fails_twice_gets_no_further_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes("bad", "good"))
    quarantine, trials = Quarantine(), [failed_on(tmp_path, "bad", each) for each in range(4)]
    any_node = trials[0].placement_group_factory
    trials[3].status = Trial.RUNNING
    quarantine.on_step_begin(iteration=1, trials=trials)
    assert all(trial.placement_group_factory == any_node for trial in trials)
    quarantine.on_trial_recover(iteration=1, trials=trials, trial=trials[0])
    quarantine.on_step_begin(iteration=2, trials=trials)
    # The first failure concerns its own trial only. It is not the trial's fault.
    requests = [trial.placement_group_factory for trial in trials]
    assert requests == [without_nodes(any_node, ["bad"]), any_node, any_node, any_node]
    assert trials[0].run_metadata.num_failures == 0
    quarantine.on_trial_recover(iteration=2, trials=trials, trial=trials[1])
    quarantine.on_step_begin(iteration=3, trials=trials)
    requests = [trial.placement_group_factory for trial in trials]
    assert requests == [without_nodes(any_node, ["bad"])] * 3 + [any_node]
    assert requests[2].bundles == [{"CPU": 1}, {"CPU": 2}]
    assert "Node bad has failed 2 trials within 60 s." in capsys.readouterr().err


def test_last_node_is_not_excluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes("bad"))
    quarantine, trial = Quarantine(), failed_on(tmp_path, "bad")
    before = trial.placement_group_factory
    for _ in range(3):
        quarantine.on_trial_recover(iteration=1, trials=[trial], trial=trial)
        quarantine.on_step_begin(iteration=2, trials=[trial])
    assert trial.placement_group_factory == before
    assert trial.run_metadata.num_failures == 1
