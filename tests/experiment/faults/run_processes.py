"""Runs in separate processes, and the faults that tests make for them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.command_line import only_trial, results, wait_for_checkpoints

#: Slow enough that a kill hits the run while it trains: about 700 env steps per second.
COMMAND = ["train", "ppo", "CartPole-v1", "--seed", "1"]
COMMAND += ["--set", "training.train_batch_size_per_learner=256", "--set", "training.num_epochs=12"]
COMMAND += ["--set", "checkpoint.every_env_steps=1000", "--stop", "env_steps=10000"]


class Run:
    """A command line in a separate process, and the folder of the run that it starts."""

    def __init__(self, folder: Path, name: str | None, *arguments: str) -> None:
        named = [] if name is None else ["--name", name]
        self.folder = folder / "results" / (name or "")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlssl.cli", *arguments, *named],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def trial(self) -> Path:
        return only_trial(self.folder)

    def wait_for_checkpoints(self, count: int) -> None:
        wait_for_checkpoints(self.process, self.folder, count)

    def kill(self, title: str, how: int = signal.SIGKILL) -> int:
        """Signals the first Ray process of this run whose title starts so; returns its pid."""
        pids = [
            pid for pid in descendants(self.process.pid) if process_title(pid).startswith(title)
        ]
        assert pids, [process_title(pid) for pid in descendants(self.process.pid)]
        os.kill(pids[0], how)
        return pids[0]

    def finish(self) -> tuple[str, str]:
        """Waits for the process, which must succeed; returns its stdout and stderr."""
        printed, errors = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, printed + errors
        return printed, errors

    def results(self) -> list[dict[str, Any]]:
        return results(self.trial())


def descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        parents[int(folder.name)] = int(fields[1])
    found: set[int] = set()
    new = {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


def process_title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Any]:
    started: list[Run] = []

    def start(name: str | None, *arguments: str) -> Run:
        started.append(Run(tmp_path, name, *arguments))
        return started[-1]

    yield start
    for run in started:
        # Ray starts its workers in separate sessions, so each process is killed by its id.
        below = descendants(run.process.pid) if run.process.poll() is None else []
        for pid in [*below, *([run.process.pid] if below else [])]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        run.process.wait()


def kill_driver(run: Run) -> None:
    """Kills the process of a command, and waits until the process of its trial has ended, too."""
    below = descendants(run.process.pid)
    run.process.kill()
    run.process.wait()
    wait_until_gone(below)


def wait_until_gone(pids: list[int]) -> None:
    """Waits until the trial's process has ended; Ray's own agents may take a minute longer."""
    deadline = time.monotonic() + 10
    while any(process_title(pid).startswith("ray::SpecTrainable") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def state_files(run: Path) -> list[Path]:
    patterns = ("tuner.pkl", "experiment_state-*.json", "searcher-state-*", "search_gen_state-*")
    return [path for pattern in patterns for path in run.glob(pattern)]


def mount(path: Path, *options: str) -> bool:
    """Mounts something at ``path``; whether that worked, which needs root."""
    command = ["mount", *options, str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def small_disk(path: Path, size: str = "20m") -> Iterator[Path]:
    """A disk at ``path``; skips the test without the right to mount one."""
    path.mkdir()
    if not mount(path, "-t", "tmpfs", "-o", f"size={size}", "none"):
        pytest.skip("needs root for a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def wait_until_unchanged(path: Path, for_s: float = 5.0) -> None:
    """Waits until a file has had the same size for some seconds."""
    size, since, deadline = -1, 0.0, time.monotonic() + 120
    while time.monotonic() - since < for_s or size < 0:
        assert time.monotonic() < deadline
        if path.stat().st_size != size:
            size, since = path.stat().st_size, time.monotonic()
        time.sleep(0.1)
