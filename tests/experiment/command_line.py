"""Runs the command line in separate processes, and reads the folders that runs leave."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlssl.run_files import MANIFEST


@contextlib.contextmanager
def restored_import_path() -> Iterator[None]:
    """Restores ``sys.path`` and PYTHONPATH afterwards: commands add folders to them."""
    before = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        try:
            yield
        finally:
            sys.path[:] = before


#: Seconds after which a command of `rlssl` has failed. A trial whose processes do not start is
#: started again after 300 s, by its watchdog.
LIMIT_S = 540


def rlssl(*arguments: str, cwd: Path, code: int = 0, limit_s: float = LIMIT_S) -> tuple[str, str]:
    """Runs the command line and checks its exit code; returns its stdout and stderr.

    A command that does not end within ``limit_s`` seconds is killed, and what it printed is shown.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            printed, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as late:
            # If the command itself has ended, one of its children still has its output open.
            state = "runs" if process.poll() is None else "has ended, a child of it runs"
            process.kill()
            text = b"\n".join(part for part in (late.stdout, late.stderr) if part).decode()
            pytest.fail(f"rlssl {' '.join(arguments)} {state} after {limit_s:g} s:\n{text}")
    assert process.returncode == code, printed + errors
    return printed, errors


def kill_when(condition: Callable[[], bool], *arguments: str, cwd: Path) -> None:
    """Starts a command, and kills it and its children as soon as a condition holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", *arguments], cwd=cwd, start_new_session=True
    )
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def only_trial(run: Path) -> Path:
    """The folder of a run's only trial."""
    (marker,) = run.glob("*/trial.json")
    return marker.parent


def results(trial: Path) -> list[dict[str, Any]]:
    """Every result of a trial."""
    return [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]


def wait_for_checkpoints(process: subprocess.Popen[Any], run: Path, count: int) -> None:
    """Waits until ``run`` has ``count`` checkpoints; ``process`` must keep running meanwhile."""
    deadline = time.monotonic() + 240
    while len(list(run.glob(f"*/checkpoint_*/{MANIFEST}"))) < count:
        assert process.poll() is None, f"exit code {process.returncode}: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def write_failing_env(
    path: Path, name: str, error: str, *, after: int, for_good: bool = False
) -> None:
    """Writes a plug-in whose environment raises an error after some steps.

    Args:
        path: Path of the module.
        name: Name of the environment.
        error: The expression to raise.
        after: Number of steps before the error.
        for_good: Whether all environments of a process share the count of steps, so that a
            rebuilt environment fails again.
    """
    counter = "Failing" if for_good else "self"
    path.write_text(
        textwrap.dedent(
            f"""
            import gymnasium as gym, numpy as np, rlssl

            class Failing(gym.Env):
                observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
                action_space = gym.spaces.Discrete(2)
                steps = 0

                def __init__(self, config):
                    pass

                def reset(self, *, seed=None, options=None):
                    return np.zeros(2, np.float32), {{}}

                def step(self, action):
                    {counter}.steps += 1
                    if {counter}.steps > {after}:
                        raise {error}
                    return np.zeros(2, np.float32), 0.0, False, False, {{}}

            rlssl.register_env("{name}", Failing)
            """
        )
    )
