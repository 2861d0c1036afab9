"""The cost of a trial: short sweeps of PPO on CartPole-v1, in processes of their own."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.contests import descendants

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05
_CPUS = 2


def measure_trials(count: int, checkout: Path, is_reused: bool | None) -> None:
    """Prints the cost of a trial of PPO on CartPole-v1."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    few, many = (ppo_sweep(number, checkout, is_reused) for number in (2, 2 + count))
    names = ("processor time, all processes", "wall time")
    for name, before, after in zip(names, few, many, strict=True):
        print(f"{name}: 2 trials {before:.1f} s, {2 + count} trials {after:.1f} s, ", end="")
        print(f"each trial {(after - before) / count:.2f} s", flush=True)


def ppo_sweep(num_trials: int, checkout: Path, is_reused: bool | None) -> tuple[float, float]:
    """Processor time of all processes, and wall time, of a sweep in a new process, seconds."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        links = {"rlssl": "rlssl", "rlssl_envs": "envs", "rlssl_tune_configs": "tune_configs"}
        for name, target in links.items():
            Path(folder, name).symlink_to(checkout / target)
        document = {
            "name": "sweep",
            "algorithm": "ppo",
            "env": {"id": "CartPole-v1"},
            "seeds": list(range(num_trials)),
            "stop": {"env_steps": 2_048},
            "storage": f"{folder}/results",
            **({} if is_reused is None else {"reuse_processes": is_reused}),
        }
        # YAML reads JSON.
        Path(folder, "sweep.yaml").write_text(json.dumps(document))
        command = [sys.executable, "-m", "rlssl.cli", "sweep", f"{folder}/sweep.yaml"]
        paths = {"PYTHONPATH": folder, "RAY_TMPDIR": folder}
        environment = {**os.environ, **paths, "XDG_STATE_HOME": f"{folder}/state"}
        # Python imports from the working folder first.
        return cost_of(command, environment, folder)


def cost_of(
    command: Sequence[str], environment: dict[str, str], folder: str
) -> tuple[float, float]:
    """Processor time of a process in a folder and all that it starts, and wall time, seconds.

    Raises:
        RuntimeError: If the process fails.
    """
    others = set(descendants(os.getpid(), _parents()))
    seconds: dict[int, float] = {}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        while process.poll() is None:
            _note_processor_time(seconds, others)
            time.sleep(_POLL_S)
        wall = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{command} failed:\n{log.read()[-3000:]}")
    # Ray's own processes end a little later.
    while _note_processor_time(seconds, others):
        time.sleep(_POLL_S)
        _reap()
    return sum(seconds.values()), wall


def _note_processor_time(seconds: dict[int, float], others: set[int]) -> bool:
    """Notes the time so far of every living descendant; False if there is none."""
    found = descendants(os.getpid(), _parents()) - others
    for pid in found:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # In user mode and in the kernel, without children, which are noted themselves.
        seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return bool(found)


def _parents() -> dict[int, int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
    return parents


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
