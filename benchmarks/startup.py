"""From the start of a process to its first result: PPO on CartPole-v1, local.

Every play is a new process. "train" ends when Tune has written the first line of result.json: one
iteration of 1,024 steps with 4 epochs. Later work, such as checkpoints and shutting down, is waited
for and not counted. "build" ends when `build_algo` has returned, imports and the start of Ray
included. The saved report also has the seconds of only that call.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, Sample, tree_cpu_seconds

#: The same settings for both, in Python.
_CONFIG = (
    "PPOConfig().environment('CartPole-v1')"
    ".env_runners(num_env_runners=0, num_envs_per_env_runner=8)"
    ".training(train_batch_size_per_learner=1024, minibatch_size=256, num_epochs=4)"
)
_STOCK_IMPORT = "from ray.rllib.algorithms.ppo import PPOConfig"
_TUNER = f"""
import sys
from ray import tune
{_STOCK_IMPORT}
run_config = tune.RunConfig(storage_path=sys.argv[1], stop={{"training_iteration": 1}})
tune.Tuner("PPO", param_space={_CONFIG}, run_config=run_config).fit()
"""
_BUILD = f"""
import time
{{import_line}}
start = time.perf_counter()
algorithm = {_CONFIG}.build_algo()
print("built", time.perf_counter() - start, flush=True)
algorithm.stop()
"""
_RLSSL_TRAIN = (
    *("train", "ppo", "CartPole-v1", "--stop", "env_steps=1000"),
    *("--set", "training.minibatch_size=256", "--set", "training.num_epochs=4"),
)
TIMEOUT_S = 300.0


def rlssl_train(_: float) -> Play:
    """`rlssl train`."""
    command = [str(Path(sys.executable).with_name("rlssl")), *_RLSSL_TRAIN, "--storage"]
    return functools.partial(_train, command)


def stock_train(_: float) -> Play:
    """RLlib through tune.Tuner."""
    return functools.partial(_train, [sys.executable, "-c", _TUNER])


def build(_: float, *, import_line: str) -> Play:
    """A script that builds an Algorithm."""
    return functools.partial(_build, _BUILD.format(import_line=import_line))


def _train(command: Sequence[str]) -> Sample:
    # Ray's own folder is inside as well: results are there before they reach the storage.
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        return timed_until(
            [*command, f"{folder}/results"],
            lambda _: any(path.stat().st_size for path in Path(folder).rglob("result.json")),
            Path(folder),
        )


def _build(script: str) -> Sample:
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        command = [sys.executable, "-c", script]
        return timed_until(command, lambda log: "built" in log.read_text(), Path(folder))


def timed_until(command: Sequence[str], ready: Callable[[Path], bool], folder: Path) -> Sample:
    """Starts a process, times it until ``ready(log)`` is true, and waits for its end.

    Raises:
        RuntimeError: The process was never ready, or failed.
    """
    log = folder / "log"
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_TMPDIR": str(folder)},
        )
    try:
        while not ready(log):
            if process.poll() is not None or time.perf_counter() - start > TIMEOUT_S:
                raise RuntimeError(f"{command} was never ready:\n{log.read_text()[-3000:]}")
            time.sleep(0.01)
        wall, cpu = time.perf_counter() - start, tree_cpu_seconds(process.pid)
        process.wait(TIMEOUT_S)
    finally:
        process.kill()
    if process.returncode:
        raise RuntimeError(f"{command} failed:\n{log.read_text()[-3000:]}")
    built = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("built")]
    return Sample(1, wall, cpu, {"build_algo_s": round(float(built[0]), 2)} if built else {})


ROWS = (
    Row(
        "startup_train",
        "process start to first result, PPO CartPole-v1, local",
        "start",
        (Contestant("rlssl train", rlssl_train), Contestant("stock Tuner", stock_train)),
        (Comparison(("rlssl train",), ("stock Tuner",), 1.0, 0.6, of_time=True),),
        seconds=0,
    ),
    Row(
        "startup_build",
        "process start to a built Algorithm, PPO CartPole-v1, local",
        "start",
        (
            Contestant(
                "rlssl", functools.partial(build, import_line="from rlssl import PPOConfig")
            ),
            Contestant("stock", functools.partial(build, import_line=_STOCK_IMPORT)),
        ),
        (Comparison(("rlssl",), ("stock",), 1.0, 0.6, of_time=True),),
        seconds=0,
    ),
)
