"""Writes runs in the format of rlssl, small ones and large ones."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Scores of seeds by label: `one_run` has a point for each of them.
Scores = Mapping[str, Sequence[float]]

#: Keys of the many metrics that real results have.
MANY_METRICS = [
    *(f"learners/default_policy/metric_{index}" for index in range(30)),
    *(f"aux/loss/part_{index}" for index in range(10)),
    *(f"perf/part_{index}" for index in range(20)),
]


def spec_of(seed: int, env: Mapping[str, Any], env_steps: int, more: Mapping[str, Any]) -> str:
    """``spec.yaml`` of a trial; JSON is YAML."""
    versions = {"rlssl": "0.1.0", "ray": "2.60.0", "torch": "2.13.0"}
    spec = {
        "name": "run",
        "algorithm": "ppo",
        "env": dict(env),
        "seed": seed,
        "stop": {"env_steps": env_steps},
        "evaluation": {"episodes": 10, "explore": False, "env": {}},
        "provenance": {"versions": versions, "git_commit": "a" * 40, "machine": "2 cores"},
        "effective": {
            "algorithm": "ppo",
            "env": dict(env),
            "training": {"lr": 0.001, "gamma": 0.99},
            **({"auxiliary": more["auxiliary"]} if "auxiliary" in more else {}),
        },
    }
    return json.dumps({**spec, **{key: value for key, value in more.items() if key != "effective"}})


def write_trial(
    folder: Path,
    *,
    point: Mapping[str, Any],
    label: str,
    seed: int,
    score: float,
    env: Mapping[str, Any] | None = None,
    env_steps: int = 10_000,
    num_results: int = 20,
    num_episodes: int = 100,
    metrics: Sequence[str] = ("learners/default_policy/vf_loss", "intrinsic_return_mean"),
    status: str = "finished",
    spec: Mapping[str, Any] | None = None,
) -> None:
    """Writes a trial whose return rises from 0; its last 20 episodes have ``score``."""
    folder.mkdir(parents=True)
    env = env or {"id": "CartPole-v1"}
    (folder / "spec.yaml").write_text(spec_of(seed, env, env_steps, spec or {}))
    trial = {"point": dict(point), "seed": seed, "variant_label": label}
    (folder / "trial.json").write_text(json.dumps(trial))
    rng = np.random.default_rng(seed)
    end = env_steps if status == "finished" else env_steps // 2
    steps = np.linspace(end / num_results, end, num_results).round().astype(int).tolist()
    values = rng.normal(size=(num_results, len(metrics))).round(6).tolist()
    with (folder / "result.json").open("w") as file:
        for at, (step, row) in enumerate(zip(steps, values, strict=True)):
            mean = score * min(1.0, (at + 1) / num_results / 0.8)
            result: dict[str, Any] = {
                "env_steps": step,
                "agent_steps": step,
                "time_total_s": at + 1.0,
            }
            result |= {"episode_return_mean": mean, "env_steps_at_start": 0}
            result |= {"done": status == "finished" and at == num_results - 1}
            file.write(json.dumps({**result, **dict(zip(metrics, row, strict=True))}) + "\n")
    ends = np.linspace(end / max(num_episodes, 1), end, num_episodes).round().astype(int).tolist()
    rising = max(num_episodes - 20, 1)
    returns = [score * min(1.0, (at + 1) / rising) for at in range(num_episodes)]
    lines = [f"{step},{value!r},10," for step, value in zip(ends, returns, strict=True)]
    text = "\n".join(["env_steps,return,length,success", *lines]) + "\n"
    (folder / "episodes.csv").write_text(text)
    if status == "failed":
        (folder / "error.txt").write_text("ValueError: broken\n")


def one_run(folder: Path, scores: Scores, **options: Any) -> Path:
    """Writes a run with a point for each label, and a seed for each of its scores."""
    points: list[dict[str, Any]] = [{"variant": label} for label in scores]
    write_run_files(folder, points, list(scores), max(map(len, scores.values())))
    for point, (label, of_seeds) in zip(points, scores.items(), strict=True):
        for seed, score in enumerate(of_seeds):
            path = folder / f"trial-{points.index(point):03}-seed{seed}"
            write_trial(path, point=point, label=label, seed=seed, score=score, **options)
    return folder


def write_run_files(
    folder: Path, points: Sequence[Mapping[str, Any]], labels: Sequence[str], num_seeds: int
) -> None:
    """Writes the files of a run that are not its trials'."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text('{"is_sweep": true}')
    (folder / "sweep.yaml").write_text(f"name: run\nseeds: {list(range(num_seeds))}\n")
    listed = [
        {"index": index, "values": dict(point), "label": label}
        for index, (point, label) in enumerate(zip(points, labels, strict=True))
    ]
    (folder / "points.json").write_text(json.dumps({"points": listed}))


def large_search(folder: Path, num_points: int, num_seeds: int) -> Path:
    """Writes a search over two settings with as many metrics and episodes as real runs have."""
    rng = np.random.default_rng(0)
    points = [
        {
            "training.lr": float(10 ** rng.uniform(-5, -2)),
            "training.gamma": float(rng.uniform(0.9, 1)),
        }
        for _ in range(num_points)
    ]
    labels = [
        f"lr={point['training.lr']:.4g}, gamma={point['training.gamma']:.4g}" for point in points
    ]
    write_run_files(folder, points, labels, num_seeds)
    for index, (point, label) in enumerate(zip(points, labels, strict=True)):
        height = 100.0 - 20.0 * abs(np.log10(point["training.lr"]) + 3.5)
        for seed in range(num_seeds):
            write_trial(
                folder / f"trial-{index:03}-seed{seed}",
                point=point,
                label=label,
                seed=seed,
                score=float(height + rng.normal(scale=5.0)),
                env_steps=1_000_000,
                num_results=60,
                num_episodes=2_000,
                metrics=MANY_METRICS,
            )
    return folder
