"""Trial folders with the files of a run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

WriteTrial = Callable[..., Path]


@pytest.fixture
def write_trial(tmp_path: Path) -> WriteTrial:
    """Writes the trial folder ``<tmp_path>/sweep/<name>`` and returns its path."""

    def write(
        name: str,
        *,
        seed: int = 0,
        point: dict[str, Any] | None = None,
        label: str = "",
        returns: Sequence[float] = (),
        successes: Sequence[float] | None = None,
        env_steps: Sequence[int] | None = None,
        results: Sequence[dict[str, Any]] | None = None,
        spec_name: str = "icm-vs-none",
    ) -> Path:
        folder = tmp_path / "sweep" / name
        folder.mkdir(parents=True)
        (folder / "spec.yaml").write_text(
            f"name: {spec_name}\nalgorithm: ppo\nenv: {{id: CartPole-v1}}\n"
        )
        content = {"point": point or {}, "seed": seed, "variant_label": label}
        (folder / "trial.json").write_text(json.dumps(content))
        rows = results if results is not None else [{"env_steps": 100 * (len(returns) or 1)}]
        (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        steps = env_steps if env_steps is not None else [100 * (i + 1) for i in range(len(returns))]
        known = successes if successes is not None else ["nan"] * len(returns)
        lines = [f"{s},{r},10,{k}" for s, r, k in zip(steps, returns, known, strict=True)]
        text = "\n".join(["env_steps,return,length,success", *lines]) + "\n"
        (folder / "episodes.csv").write_text(text)
        return folder

    return write


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of the run ``<tmp_path>/sweep`` that are not its trials'."""

    def write(
        points: Sequence[dict[str, Any]] = ({},),
        seeds: Sequence[int] = (0,),
        stopped: dict[int, int] | None = None,
    ) -> Path:
        folder = tmp_path / "sweep"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text("{}")
        (folder / "sweep.yaml").write_text(f"seeds: {list(seeds)}\n")
        listed = [
            {"index": index, "values": point, "label": f"point {index}"}
            for index, point in enumerate(points)
        ]
        (folder / "points.json").write_text(json.dumps({"search_seed": 0, "points": listed}))
        stops = [
            {"values": point, "stopped_at": (stopped or {}).get(index)}
            for index, point in enumerate(points)
        ]
        (folder / "scheduler.json").write_text(json.dumps({"points": stops}))
        return folder

    return write
