"""Writes the folders of finished runs, in the format of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SPEC: dict[str, Any] = {
    "name": "run",
    "algorithm": "ppo",
    "env": {"id": "CartPole-v1"},
    "stop": {"env_steps": 2000},
    "evaluation": {"episodes": 10, "explore": False, "env": {}},
}


def write_run(
    folder: Path, points: Sequence[Mapping[str, Any]] = ({},), seeds: Sequence[int] = (0, 1, 2)
) -> Path:
    """Writes what is not of a trial."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"state": "finished", "is_sweep": True}))
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**SPEC, "seeds": list(seeds)}))
    listed = [
        {"index": index, "values": values, "label": label(values)}
        for index, values in enumerate(points)
    ]
    (folder / "points.json").write_text(json.dumps({"points": listed}))
    return folder


def write_trial(
    run: Path,
    seed: int,
    returns: Sequence[float | str],
    *,
    point: Mapping[str, Any] | None = None,
    steps_each: int = 100,
    spec: Mapping[str, Any] | None = None,
    done: bool = True,
    folder: str = "",
    last: Mapping[str, Any] | None = None,
    successes: Sequence[int | str] | None = None,
) -> Path:
    """Writes a trial whose episodes have these returns, and one result for each episode."""
    point = point or {}
    trial = run / (folder or f"{label(point)}-seed{seed}")
    trial.mkdir()
    used = {**SPEC, "seed": seed, **(spec or {})}
    training = {key.removeprefix("training."): value for key, value in point.items()}
    used["effective"] = {"algorithm": "ppo", "env": used["env"], "training": training}
    used["effective"]["evaluation"] = used["evaluation"]
    (trial / "spec.yaml").write_text(yaml.safe_dump(used))
    content = {"point": point, "seed": seed, "variant_label": label(point)}
    (trial / "trial.json").write_text(json.dumps(content))
    lines = [
        f"{steps_each * (index + 1)},{value},{steps_each},{success}"
        for index, (value, success) in enumerate(
            zip(returns, successes or ["nan"] * len(returns), strict=True)
        )
    ]
    header = "env_steps,return,length,success"
    (trial / "episodes.csv").write_text("\n".join([header, *lines]) + "\n")
    steps = steps_each * max(len(returns), 1)
    rows = [
        {"env_steps": steps // 2, "agent_steps": steps // 2, "time_total_s": 5.0},
        {"env_steps": steps, "agent_steps": steps, "time_total_s": 10.0, "done": done},
    ]
    rows[-1] |= last or {}
    (trial / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return trial


def label(point: Mapping[str, Any]) -> str:
    """The label of a point."""
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items())
