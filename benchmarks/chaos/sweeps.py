"""The four sweeps of two trials each, as processes of the command line."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlssl.run_files import MANIFEST

#: The losses of the two trials of each sweep.
LOSSES: tuple[dict[str, Any], ...] = ({"curl": {}}, {"icm": {}})

#: Seconds without a sign of life after which a process is replaced.
WATCHDOG_S = 45

#: What each sweep adds to `_COMMON`. PPO and A3C have remote EnvRunners, PPO has a remote Learner.
SWEEPS: dict[str, dict[str, Any]] = {
    "ppo": {
        "env": {"id": "chaos/CartPole", "wait_s": 0.008},
        "resources": {"env_runners": 2, "learners": 1},
        "training": {"train_batch_size_per_learner": 512, "num_epochs": 2},
        "checkpoint": {"every_env_steps": 3_000},
        "stop": {"env_steps": 100_000},
    },
    "a3c": {
        "env": {"id": "chaos/CartPole", "wait_s": 0.008},
        "resources": {"env_runners": 2},
        "training": {"agent_steps_per_iteration": 512, "worker_timeout_s": WATCHDOG_S},
        "checkpoint": {"every_env_steps": 3_000},
        "stop": {"env_steps": 100_000},
    },
    "rainbow": {
        "env": {"id": "chaos/CartPole", "wait_s": 0.02},
        "training": {"learning_starts_agent_steps": 500, "agent_steps_per_iteration": 100},
        "checkpoint": {"every_env_steps": 500},
        "stop": {"env_steps": 16_000},
    },
    "sac": {
        "env": {"id": "chaos/Pendulum", "wait_s": 0.03},
        "training": {
            "learning_starts_agent_steps": 500,
            "agent_steps_per_iteration": 100,
            "train_batch_size_per_learner": 64,
        },
        "checkpoint": {"every_env_steps": 500},
        "stop": {"env_steps": 10_000},
    },
}

#: The sweeps whose trials are deterministic: one process each.
DETERMINISTIC = ("rainbow", "sac")


@dataclass
class Sweep:
    """A sweep of two trials, and the process that drives it.

    Args:
        name: The algorithm.
        here: The folder of the file and of the output.
        storage: The folder of the run.
        address: The cluster; None: a Ray of its own, without waiting environments.
    """

    name: str
    here: Path
    storage: Path
    address: str | None
    process: "subprocess.Popen[Any] | None" = field(default=None, init=False)

    def document(self) -> dict[str, Any]:
        """The spec of the sweep."""
        own = {key: dict(value) for key, value in SWEEPS[self.name].items()}
        if self.address is None:
            own["env"]["wait_s"] = 0.0
        return {
            **own,
            "name": self.name,
            "algorithm": self.name,
            "plugins": ["benchmarks.chaos.waiting_envs"],
            "search": {"auxiliary": {"grid": list(LOSSES)}},
            "seeds": [0],
            "storage": str(self.storage),
            "watchdog_s": WATCHDOG_S,
            # A node's loss and a killed Learner may hit the same trial before its next checkpoint.
            "max_failures": 4,
            "tracking": [],
        }

    @property
    def folder(self) -> Path:
        return self.storage / self.name

    def start(self) -> None:
        """Starts the sweep."""
        file = self.here / f"{self.name}.yaml"
        file.write_text(json.dumps(self.document()))
        self._run("sweep", str(file))

    def resume(self) -> None:
        """Continues the sweep after its driver was killed."""
        self._run("resume", str(self.folder), "--trust")

    def trials(self) -> list[Path]:
        return [marker.parent for marker in sorted(self.folder.glob("*/trial.json"))]

    def checkpoints(self) -> int:
        """The number of complete checkpoints of the trial that has fewest."""
        trials = self.trials()
        if len(trials) < len(LOSSES):
            return 0
        return min(len(list(it.glob(f"checkpoint_*/{MANIFEST}"))) for it in trials)

    def kill(self) -> None:
        """Kills the driver, if it still runs; Ray ends its processes."""
        if self.process is not None and not self.is_over:
            self.process.kill()
            self.process.wait()

    @property
    def is_over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def printed(self) -> str:
        return "".join(it.read_text() for it in sorted(self.here.glob(f"{self.name}-*.txt")))

    def _run(self, *words: str) -> None:
        number = len(list(self.here.glob(f"{self.name}-*.txt")))
        where = [] if self.address is None else ["--address", self.address]
        with (self.here / f"{self.name}-{number}.txt").open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rlssl.cli", *words, *where],
                cwd=self.here,
                env={**os.environ, "XDG_STATE_HOME": str(self.here / "state")},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
