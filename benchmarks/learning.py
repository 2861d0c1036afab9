"""How long `rlssl train ppo CartPole-v1` takes to a mean return of 475 over 20 episodes.

Round k trains with seed k, from the start of the process to its end. There is no other contestant:
this row is the time that a user waits, not a comparison.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

from benchmarks.harness.contests import Contestant, Play, Row, Sample, tree_cpu_seconds

TARGET, MAX_ENV_STEPS = 475, 500_000


def train(_: float) -> Play:
    """The command, once a play, with the next seed each time."""
    seeds = count()
    return lambda: train_once(next(seeds))


def train_once(seed: int) -> Sample:
    """Trains to the target.

    Raises:
        RuntimeError: The command failed.
    """
    command = [
        *(str(Path(sys.executable).with_name("rlssl")), "train", "ppo", "CartPole-v1"),
        *("--stop", f"episode_return_mean={TARGET}", "--stop", f"env_steps={MAX_ENV_STEPS}"),
        *("--seed", str(seed)),
    ]
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        cpu, start = tree_cpu_seconds(os.getpid()), time.perf_counter()
        process = subprocess.run(
            [*command, "--storage", folder], capture_output=True, text=True, check=False
        )
        wall = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"{command} failed:\n{process.stderr[-3000:]}")
        (results,) = Path(folder).glob("*/*/result.json")
        last = json.loads(results.read_text().splitlines()[-1])
    detail = {
        "seed": seed,
        "reached": last["episode_return_mean"] >= TARGET,
        "env_steps": last["env_steps"],
        "training_s": last["time_total_s"],
    }
    return Sample(1, wall, tree_cpu_seconds(os.getpid()) - cpu, detail)


ROWS = (
    Row(
        "cartpole_to_475",
        f"`rlssl train ppo CartPole-v1` to a return of {TARGET}, a seed a round",
        "run",
        (Contestant("rlssl train", train),),
        seconds=0,
        warm_up=0,
    ),
)
