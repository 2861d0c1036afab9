"""What a sweep would need, before it starts; memory for replay buffers is asked from Ray."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlssl.cli import main
from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.cluster.placement import require_room, trial_request, trials_at_a_time
from rlssl.experiment.plan import idle_gpus_here, lines, plan
from rlssl.experiment.spec.loading import at_point, load_spec
from rlssl.experiment.trial_check import check_sweep
from tests.experiment.command_line import results, rlssl

GIB = 2**30

SPEC: dict[str, Any] = {
    "name": "planned",
    "algorithm": "sac",
    "env": "Pendulum-v1",
    "search": {"training.lr": {"loguniform": [1e-4, 1e-2]}},
    "searcher": {"random": {"num_samples": 25}},
    "seeds": [0, 1, 2],
    "training": {"replay_capacity": 100_000},
    "stop": {"env_steps": 200_000},
}
#: A row has 3 observations, an action and a reward of 4 bytes, links of 8, flags of 3.
REPLAY_BYTES = 100_000 * (3 * 4 + 4 + 4 + 8 + 3)


def test_trials_are_counted_node_by_node() -> None:
    trial = [{"CPU": 1, "memory": 3 * GIB}, {"CPU": 1}]
    nodes = [{"CPU": 8, "memory": 7 * GIB}, {"CPU": 3, "memory": 100 * GIB}]
    # The second node has CPUs for a trial and a half, the first one for the other half and, with
    # its memory, for two trials more.
    assert trials_at_a_time(trial, nodes, 100) == 4
    assert trials_at_a_time(trial, nodes[:1], 100) == 2
    assert trials_at_a_time(trial, nodes[:1], 1) == 1
    assert trials_at_a_time([{"CPU": 9}], nodes, 100) == 0


def test_only_trials_of_a_sweep_ask_for_the_memory_of_their_replay_buffers() -> None:
    sweep = load_spec(SPEC)
    trial = at_point(sweep, {"training.lr": 1e-3}, 0)
    assert trial_request(sweep, trial, REPLAY_BYTES).bundles == [{"CPU": 1, "memory": REPLAY_BYTES}]
    assert trial_request(trial, trial, REPLAY_BYTES).bundles == [{"CPU": 1}]


def test_on_a_cluster_the_memory_of_the_drivers_machine_does_not_count() -> None:
    spec = load_spec(
        {**SPEC, "search": {}, "searcher": None, "training": {"replay_capacity": 10**12}}
    )
    with pytest.raises(SpecError, match=r"training\.replay: the replay buffer would take"):
        check_sweep(spec)
    (checked,) = check_sweep(spec, address="head:6379")
    assert checked.replay_bytes == REPLAY_BYTES * 10**7


@pytest.mark.parametrize(("share", "idle"), [(0, 2), (0.25, 1), (1, 0)])
def test_gpus_that_no_trial_uses_are_named(
    share: float, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    # Three trials, one for each seed, of which two run at a time if each has a GPU.
    changes = {"search": {}, "searcher": None, "resources": {"gpus_per_learner": share}}
    words = idle_gpus_here(load_spec({**SPEC, **changes}))
    assert words.startswith(f"idle GPUs: {idle} of 2; resources.gpus_per_learner=1") == (idle > 0)


def test_a_share_of_a_gpu_is_asked_for_the_process_that_uses_it() -> None:
    def bundles(**resources: Any) -> list[dict[str, float]]:
        trial = load_spec({**SPEC, "search": {}, "searcher": None, "resources": resources})
        return trial_request(trial, at_point(trial, {}, 0)).bundles

    assert bundles(gpus_per_learner=0.25) == [{"CPU": 1, "GPU": 0.25}]
    runners = bundles(env_runners=2, gpus_per_env_runner=0.5, learners=2, gpus_per_learner=1)
    assert sorted(bundle.get("GPU", 0) for bundle in runners) == [0, 0.5, 0.5, 1, 1]


def test_memory_that_no_node_has_is_refused_with_numbers() -> None:
    words = (
        r"a trial needs 9.00 GiB of memory \(training.replay_capacity\), but the cluster has "
        r"12.00 GiB on 2 nodes, the largest 8.00 GiB; request fewer"
    )
    nodes = [{"CPU": 4, "memory": 8 * GIB}, {"CPU": 4, "memory": 4 * GIB}]
    with pytest.raises(ResourceError, match=words):
        require_room([{"CPU": 1, "memory": 9 * GIB}], nodes)
    require_room([{"CPU": 1, "memory": 8 * GIB}, {"CPU": 1}], nodes)


def test_plan_has_what_a_sweep_needs() -> None:
    spec = load_spec(SPEC)
    checked = check_sweep(spec)
    planned = plan(spec, checked)
    assert planned.replay_bytes == REPLAY_BYTES
    assert planned.num_trials == 75 and len(planned.points) == 20
    assert planned.checkpoint_bytes == 16 * checked[0].num_weights + REPLAY_BYTES
    assert planned.disk_bytes == 75 * spec.checkpoint.keep * planned.checkpoint_bytes
    text = "\n".join(lines(planned))
    assert text.startswith("a trial: 1 process: 1 CPU + 3.0 MiB of memory\n")
    assert "--measure trains one trial" in text


def dry_run(folder: Path, *options: str, **changes: Any) -> Any:
    path = folder / "planned.yaml"
    path.write_text(json.dumps({**SPEC, "storage": str(folder / "results"), **changes}))
    return CliRunner().invoke(main, ["sweep", str(path), "--dry-run", *options])


def test_dry_run_checks_as_a_start_would_and_starts_nothing(tmp_path: Path) -> None:
    found = json.loads(dry_run(tmp_path, "--json").stdout)
    assert found["num_trials"] == 75 and found["replay_bytes"] == REPLAY_BYTES
    assert found["seconds"] is None and len(found["points"]) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["planned.yaml"]
    printed = dry_run(tmp_path).stdout
    assert "planned: 200,000 env steps a trial\n75 trials: points of the search, each" in printed
    assert "\n  and 5 more\na trial: 1 process" in printed
    refused = dry_run(tmp_path, env={"id": "Pendulum-v1", "wrong": 1})
    assert refused.exit_code == 2 and "'wrong'" in refused.stderr
    too_large = dry_run(tmp_path, resources={"learners": 1, "gpus_per_learner": 1})
    assert too_large.exit_code == 3 and "a trial needs 1 GPU" in too_large.stderr


def test_dry_run_refuses_no_sweep_that_starts_on_fewer_cores(tmp_path: Path) -> None:
    cores = os.cpu_count() or 1
    printed = dry_run(tmp_path, resources={"env_runners": cores}).stdout
    assert f"this machine: {cores + 1} CPUs" in printed and "; 1 trial at a time" in printed
    assert f"its cores: {cores}, which the processes of a trial share" in printed


def test_study_lists_no_points_before_it_has_any(tmp_path: Path) -> None:
    printed = dry_run(tmp_path, searcher={"optuna": {"num_samples": 8}}).stdout
    assert "24 trials at most: points that the searcher suggests one by one" in printed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_measured_trial_tells_the_time_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "planned.yaml").write_text(json.dumps({**SPEC, "stop": {"env_steps": 1_000_000}}))
    printed, _ = rlssl("sweep", "planned.yaml", "--dry-run", "--measure", "--json", cwd=tmp_path)
    found = json.loads(printed)
    rate = found["measured"]["env_steps_per_s"]
    rounds = -(-75 // found["trials_at_a_time"])
    assert rate > 1 and found["seconds"] == pytest.approx(rounds * 1e6 / rate)
    assert found["checkpoint_bytes"] > REPLAY_BYTES
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_trials_wait_for_memory_of_others(tmp_path: Path) -> None:
    # Two CPUs are free, but not two times three fifths of the memory.
    spec = load_spec({**SPEC, "training": {"replay_capacity": 1000}})
    row = plan(spec, check_sweep(spec)).replay_bytes / 1000
    memory = plan(spec, check_sweep(spec)).nodes[0]["memory"]
    large = {"replay_capacity": int(0.6 * memory / row), "replay": {"max_memory_share": 0.9}}
    changes = {"search": {}, "searcher": None, "seeds": [0, 1], "stop": {"env_steps": 1000}}
    document = {**SPEC, **changes, "training": large, "checkpoint": {"replay_buffer": False}}
    (tmp_path / "planned.yaml").write_text(json.dumps(document))
    rlssl("sweep", "planned.yaml", cwd=tmp_path)
    first, second = sorted(
        (results(marker.parent) for marker in (tmp_path / "results/planned").glob("*/trial.json")),
        key=lambda rows: rows[0]["timestamp"],
    )
    assert second[0]["timestamp"] >= first[-1]["timestamp"]
