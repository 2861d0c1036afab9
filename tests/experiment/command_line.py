"""The command line in processes of their own, and the folders that runs leave."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from rlssl.run_files import MANIFEST


def rlssl(*arguments: str, cwd: Path, code: int = 0) -> tuple[str, str]:
    """Runs the command line, which must exit with ``code``; returns its output and its errors."""
    done = subprocess.run(
        [sys.executable, "-m", "rlssl.cli", *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def only_trial(run: Path) -> Path:
    """The folder of a run's one trial."""
    (marker,) = run.glob("*/trial.json")
    return marker.parent


def results(trial: Path) -> list[dict[str, Any]]:
    """Every result of a trial."""
    return [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]


def wait_for_checkpoints(process: subprocess.Popen[Any], run: Path, count: int) -> None:
    """Waits while ``process`` trains, until ``run`` has so many checkpoints."""
    deadline = time.monotonic() + 240
    while len(list(run.glob(f"*/checkpoint_*/{MANIFEST}"))) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def write_failing_env(
    path: Path, name: str, error: str, *, after: int, for_good: bool = False
) -> None:
    """Writes a plug-in whose environment raises once it has made some steps.

    Args:
        path: Of the module.
        name: To register.
        error: The expression to raise.
        after: Steps that go well.
        for_good: Whether they are those of all copies in a process, so that a new one fails, too.
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
