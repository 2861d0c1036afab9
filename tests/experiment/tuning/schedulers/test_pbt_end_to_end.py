"""A population in real processes; its driver is killed and resumed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.analysis.lineage import Exploit, members_of, read_lineage
from rlssl.analysis.results import Trial, read_run
from tests.experiment.command_line import kill_when, results, rlssl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SWEEP: dict[str, Any] = {
    "name": "population",
    "algorithm": "ppo",
    "env": "CartPole-v1",
    "training": {"train_batch_size_per_learner": 256, "minibatch_size": 64, "num_epochs": 2},
    "search": {
        "training.lr": {"loguniform": [1e-5, 1e-2]},
        "training.entropy_coeff": {"choice": [0.0, 0.01, 0.1]},
    },
    "searcher": {"random": {"num_samples": 4}},
    "scheduler": {"pbt": {"every_env_steps": 512}},
    "objective": {"metric": "area"},
    "stop": {"env_steps": 1536},
    # Two members at a time.
    "resources": {"cpus": max(1, len(os.sched_getaffinity(0)) // 2)},
}


def test_a_population_goes_on_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "population.yaml").write_text(yaml.safe_dump(SWEEP))
    run = tmp_path / "results" / "population"
    kill_when(lambda: bool(read_lineage(run)), "sweep", "population.yaml", cwd=tmp_path)
    begun = read_lineage(run)
    printed, _ = rlssl("resume", "population", cwd=tmp_path)

    lineage = read_lineage(run)
    assert lineage[: len(begun)] == begun
    assert [one.compared_at for one in lineage] == [512, 1024]
    # A result comes after 256 env steps and those that the last vector step is more.
    assert all(0 <= one.env_steps - one.compared_at < 128 for one in lineage)
    points = json.loads((run / "points.json").read_text())["points"]
    assert [one["label"][:9] for one in points] == [f"member {index}," for index in range(4)]
    markers = list(run.glob("*/trial.json"))
    assert len(markers) == 4
    for index, trial in members_of(read_run(run)).items():
        check_member(trial, [one for one in lineage if one.member == index])
    assert f"member {lineage[-1].member} continued from member {lineage[-1].source}" in printed
    assert (run / "lineage.png").is_file()
    assert "has finished" in rlssl("resume", "population", cwd=tmp_path)[0]
    _, refused = rlssl("sweep", "population.yaml", "--extend", "population", cwd=tmp_path, code=2)
    assert "members of a population start together" in refused

    rlssl("resume", "population", "--stop", "env_steps=2048", cwd=tmp_path)
    further = read_lineage(run)
    assert further[:-1] == lineage and further[-1].compared_at == 1536
    assert all(results(marker.parent)[-1]["env_steps"] >= 2048 for marker in markers)


def check_member(trial: Trial, exploits: list[Exploit]) -> None:
    """The files of a member say which values it used from which env step on."""
    assert trial.results[-1]["env_steps"] >= 1536 and trial.is_complete
    for row in trial.results:
        # The source may be some env steps behind the member.
        before = [one for one in exploits if one.env_steps <= row["env_steps_at_start"]]
        used = before[-1].new if before else trial.point
        said = {key: row[f"population/{key}"] for key in ("exploits", *used)}
        assert said == {"exploits": len(before), **used}
    described = json.loads((trial.path / "trial.json").read_text())["exploits"]
    assert [one["env_steps"] for one in described] == [one.env_steps for one in exploits]
    last = exploits[-1].new if exploits else trial.point
    used = trial.spec["effective"]["training"]
    assert trial.spec["training"]["lr"] == used["lr"] == last["training.lr"]
    assert used["entropy_coeff"] == last["training.entropy_coeff"]
    assert list(trial.episodes.env_steps) == sorted(trial.episodes.env_steps)
