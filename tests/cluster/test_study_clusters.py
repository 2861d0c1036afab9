"""A study with several seeds and early stopping on two nodes; its driver is killed twice."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.clusters import Command, Nodes
from tests.experiment.command_line import results
from tests.experiment.worth import write_sweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

#: Seconds until several trials have finished, each in a process that starts first.
PATIENCE_S = 600.0

SEEDS = [3, 4, 5]
NUM_POINTS = 6
END = 1024

STUDY: dict[str, Any] = {
    "search": {"env.worth": {"uniform": [0.0, 8.0]}},
    "searcher": {"optuna": {"num_samples": NUM_POINTS, "seed": 7, "n_startup_trials": 3}},
    "scheduler": {"asha": {"grace_env_steps": 256, "reduction_factor": 2}},
    "objective": {"metric": "area"},
    "seeds": SEEDS,
    "stop": {"env_steps": END},
    "report_every_s": 0,
}


def told(run: Path) -> list[dict[str, Any]]:
    """The scores that the searcher has been told."""
    path = run / "points.json"
    return json.loads(path.read_text()).get("told", []) if path.is_file() else []


def ends_of_points(run: Path, points: list[float]) -> dict[int, dict[int, int]]:
    """Index of a point -> seed -> env steps at the end of its trial."""
    ends: dict[int, dict[int, int]] = defaultdict(dict)
    for marker in run.glob("*/trial.json"):
        trial = json.loads(marker.read_text())
        index = points.index(trial["point"]["env.worth"])
        assert trial["seed"] not in ends[index]  # no seed of a point ran as two trials
        last = results(marker.parent)[-1]
        assert last["done"]
        ends[index][trial["seed"]] = last["env_steps"]
    return ends


def test_a_killed_study_on_two_nodes_keeps_its_points_and_seeds_together(tmp_path: Path) -> None:
    write_sweep(tmp_path, "study", **STUDY)
    run = tmp_path / "results" / "study"
    nodes = Nodes()
    used: set[str] = set()
    try:
        both = set(nodes.only(1, 1))

        def has_told(number: int) -> bool:
            used.update(nodes.actors("SpecTrainable"))
            return len(told(run)) >= number

        for words, number in ((["sweep", "study.yaml"], 1), (["resume", "study"], 3)):
            command = Command(tmp_path, *words, "--address", nodes.address)
            try:
                command.wait_until(lambda n=number: has_told(n), PATIENCE_S)
            finally:
                command.end()
        command = Command(tmp_path, "resume", "study", "--address", nodes.address)
        try:
            printed = command.finish(patience_s=PATIENCE_S)
        finally:
            command.end()
    finally:
        nodes.shutdown()
    assert used == both

    listed = json.loads((run / "points.json").read_text())["points"]
    points = [point["values"]["env.worth"] for point in listed]
    assert len(set(points)) == len(points) == NUM_POINTS  # none was suggested twice
    scores = told(run)
    assert sorted(one["index"] for one in scores) == list(range(NUM_POINTS))
    for one in scores:
        assert one["score"] == pytest.approx(points[one["index"]], rel=1e-5)

    ends = ends_of_points(run, points)
    assert set(ends) == set(range(NUM_POINTS))
    judged = json.loads((run / "scheduler.json").read_text())["points"]
    stopped = {
        points.index(one["values"]["env.worth"]) for one in judged if one["stopped_at"] is not None
    }
    finished = set(ends) - stopped
    assert points.index(max(points)) in finished
    for index in finished:
        assert sorted(ends[index]) == SEEDS and min(ends[index].values()) >= END
    for index in stopped:
        # The last seed's arrival decides; the others train on until then.
        assert min(ends[index].values()) < END
    assert ("stopped at" in printed) == bool(stopped)
