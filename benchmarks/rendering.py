"""How fast dm_control's tasks are rendered, and how much fast and full rendering differ.

    python -m benchmarks.rendering

The process uses one core. A round times the fast renderer, then the full one, on the same task.
Medians over the rounds are printed and saved as benchmarks/results/rendering.json. "frames/s" is by
the clock, so it is a lower bound if other processes run; "a CPU second" does not count them. "agent
steps" are whole steps of the environment a CPU second: physics and rendering, with CURL's action
repeat. The difference is the mean over pixels and channels, of 255, of episodes with the same seed
and actions.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.harness.machine import load, machine
from rlssl.environments.building import make_env

PACKAGES = ("mujoco", "dm_control", "numpy", "gymnasium")
TASKS = ("cartpole-swingup", "cheetah-run", "walker-walk")
SIZES = (84, 100)
# Calls a round: at least a tenth of a second of each renderer.
CALLS = {"fast": 300, "full": 10}
RESULTS = Path(__file__).parent / "results" / "rendering.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the renderers; see the module.")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5 (default: 7)")
    rounds = max(5, parser.parse_args().rounds)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    where = {"renderer": os.environ.get("MUJOCO_GL", "chosen by dm_control"), "load_before": load()}
    report: dict[str, Any] = {
        "machine": {**machine(PACKAGES), **where},
        "rounds": rounds,
        "rows": [],
    }
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    print(
        f"{'task':18}{'size':>5}  {'quality':8}{'frames/s':>9}{'a CPU second':>14}"
        f"{'agent steps':>13}{'difference':>12}"
    )
    for task in TASKS:
        for size in SIZES:
            for row in measure(task, size, rounds):
                report["rows"].append(row)
                difference = "" if row["difference"] is None else f"{row['difference']:.2f}"
                print(
                    f"{task:18}{size:5}  {row['quality']:8}{row['frames_per_s']:9.0f}"
                    f"{row['frames_per_cpu_s']:14.0f}{row['agent_steps_per_cpu_s']:13.0f}"
                    f"{difference:>12}",
                    flush=True,
                )
    report["machine"]["load_after"] = load()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    print(f"load afterwards {load()}")
    print(RESULTS.resolve())


def measure(task: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of one task and size: fast, then full."""
    envs = {
        quality: make_env({"id": f"dmc-pixels/{task}", "size": size, "render_quality": quality})
        for quality in CALLS
    }
    difference = mean_difference(envs["fast"], envs["full"])
    samples: dict[str, list[tuple[float, ...]]] = {quality: [] for quality in CALLS}
    for _ in range(rounds):
        for quality, env in envs.items():
            frames = rates(env.render, CALLS[quality])
            samples[quality].append((*frames, rates(stepper(env), CALLS[quality])[1]))
    for env in envs.values():
        env.close()
    rows = []
    for quality, values in samples.items():
        names = ("frames_per_s", "frames_per_cpu_s", "agent_steps_per_cpu_s")
        medians = map(statistics.median, zip(*values, strict=True))
        row = {"task": task, "size": size, "quality": quality}
        apart = difference if quality == "fast" else None
        rows.append({**row, **dict(zip(names, medians, strict=True)), "difference": apart})
    return rows


def stepper(env: gym.Env) -> Callable[[], Any]:
    """A function that takes one random step, from the start of an episode on."""
    env.reset()
    actions = iter(np.stack([env.action_space.sample() for _ in range(max(CALLS.values()))]))

    def step() -> None:
        if env.step(next(actions))[3]:
            env.reset()

    return step


def rates(call: Callable[[], Any], times: int) -> tuple[float, float]:
    """Calls a second, by the clock and by this process's processor time."""
    call()
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(times - 1):
        call()
    done = times - 1
    return done / (time.perf_counter() - clock), done / (time.process_time() - processor)


def mean_difference(fast: gym.Env, full: gym.Env, frames: int = 20) -> float:
    """Mean absolute difference of the frames of one episode of random actions, of 255."""
    fast.action_space.seed(0)
    fast.reset(seed=0)
    full.reset(seed=0)
    apart = []
    for _ in range(frames):
        action = fast.action_space.sample()
        left, right = fast.step(action)[0], full.step(action)[0]
        apart.append(np.abs(left.astype(int) - right).mean())
    return float(np.mean(apart))


if __name__ == "__main__":
    main()
