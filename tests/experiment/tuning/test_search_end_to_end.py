"""A sweep with draws, seeds and ASHA in real processes; its driver is killed and resumed."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.command_line import kill_when, results, rlssl
from tests.experiment.worth import write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: The end of a trial.
END = 16_384

SWEEP: dict[str, Any] = {
    # A seed of the second point needs more than a minute to its end. So it is not there before the
    # other seed reaches the first rung, although that one may have to wait for a free process.
    "env": {"id": "lab/Worth", "slow_below": 5.0},
    "search": {
        "env.worth": {"grid": [5.0, 1.0]},
        "training.entropy_coeff": {"loguniform": [1e-3, 1e-1]},
    },
    "searcher": {"random": {"num_samples": 1}},
    "seeds": [3, 4],
    "scheduler": {"asha": {"grace_env_steps": 512, "reduction_factor": 2}},
    "stop": {"env_steps": END},
    # Two trials at a time: the second point is compared with the first one.
    "resources": {"cpus": max(1, len(os.sched_getaffinity(0)) // 2)},
    "max_failures": 0,
}


def has_judged_the_first_point(scheduler: Path) -> bool:
    if not scheduler.is_file():
        return False
    points = json.loads(scheduler.read_text())["points"]
    return any(point["values"]["env.worth"] == 5.0 and point["means"] for point in points)


def test_points_are_shared_by_seeds_and_stop_as_a_whole_also_after_a_kill(tmp_path: Path) -> None:
    write_sweep(tmp_path, "worth", **SWEEP)
    run = tmp_path / "results" / "worth"
    scheduler = run / "scheduler.json"
    kill_when(lambda: has_judged_the_first_point(scheduler), "sweep", "worth.yaml", cwd=tmp_path)
    printed, _ = rlssl("resume", "worth", cwd=tmp_path)

    listed = json.loads((run / "points.json").read_text())["points"]
    assert [point["values"]["env.worth"] for point in listed] == [5.0, 1.0]
    seeds: dict[int, set[int]] = defaultdict(set)
    ends: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for marker in run.glob("*/trial.json"):
        trial = json.loads(marker.read_text())
        (index,) = [p["index"] for p in listed if p["values"] == trial["point"]]
        assert trial["seed"] not in seeds[index]  # no trial ran twice
        seeds[index].add(trial["seed"])
        ends[index].append(results(marker.parent)[-1])
    assert seeds == {0: {3, 4}, 1: {3, 4}}
    # The first point has nothing to be compared with; the second is worse.
    assert all(last["done"] and last["env_steps"] >= END for last in ends[0])
    assert all(last["done"] and 512 <= last["env_steps"] < END for last in ends[1])
    rows = [line for line in printed.splitlines() if line.startswith(" worth=")]
    assert len(rows) == 2 and all(" 2 " in row for row in rows)
    assert "stopped at 512" in printed
    assert "has finished" in rlssl("resume", "worth", cwd=tmp_path)[0]
