"""The process of a tracker: reads messages from standard input, and calls the tracker's library.

A result that is not later than the last one sent is left out: a trial that continues from a
checkpoint repeats it. What was sent is in a file in the trial's folder, which outlives processes.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from rlssl.experiment.tracking.messages import Message, TrackedTrial
from rlssl.run_files import tracking_file
from rlssl.system.files import replace_text


class Tracker(Protocol):
    """A tracker's library. Each method may raise any error of that library."""

    def start(self, trial: TrackedTrial, known: str | None) -> str:
        """Begins a trial, or continues it.

        Args:
            trial: What is shown of it.
            known: The id that an earlier process got from this method.

        Returns:
            The tracker's id of the trial.
        """

    def log(self, run_id: str, env_steps: int, metrics: dict[str, float]) -> None:
        """Sends the metrics of one result."""

    def log_video(self, run_id: str, env_steps: int, path: Path) -> None:
        """Sends a video."""

    def end(self, run_id: str, state: str) -> None:
        """Ends a trial: "finished", "failed" or "interrupted"."""


class Sender:
    """Gives messages to a tracker, and remembers what it has sent.

    Args:
        name: Name of the tracker.
        tracker: The tracker.
        report: Called with the words of each error.
    """

    def __init__(self, name: str, tracker: Tracker, report: Callable[[str], None]) -> None:
        self._name, self._tracker, self._report = name, tracker, report
        # By folder: what is shown of the trial; the tracker's id, if it has begun; last env steps.
        self._trials: dict[str, TrackedTrial] = {}
        self._ids: dict[str, str] = {}
        self._env_steps: dict[str, int] = {}

    def handle(self, message: Message) -> None:
        """Sends one message. Its errors are reported, and a later message is tried again."""
        folder = message["folder"]
        try:
            if message["do"] == "start":
                self._trials[folder] = message["trial"]
            if folder not in self._ids:
                self._start(folder)
            if message["do"] == "log":
                self._log(folder, message["env_steps"], message["metrics"])
            elif message["do"] == "video":
                path = Path(folder, message["path"])
                self._tracker.log_video(self._ids[folder], message["env_steps"], path)
            elif message["do"] == "end":
                self._end(folder, "failed" if message["failed"] else "finished")
        # A tracker's library may raise anything, and must not end the other trials' tracking.
        except Exception as error:
            words = str(error).strip().splitlines() or [""]
            self._report(f"{type(error).__name__}: {words[0]}")

    def end_all(self) -> None:
        """Ends the trials that are still open: the run was interrupted."""
        for folder in list(self._ids):
            try:
                self._end(folder, "interrupted")
            except Exception as error:
                self._report(f"{type(error).__name__}: {error}")

    def _start(self, folder: str) -> None:
        known = _read(Path(folder, tracking_file(self._name)))
        self._ids[folder] = self._tracker.start(self._trials[folder], known.get("run_id"))
        self._env_steps[folder] = int(known.get("env_steps", -1))

    def _log(self, folder: str, env_steps: int, metrics: dict[str, float]) -> None:
        if env_steps <= self._env_steps[folder]:
            return
        self._tracker.log(self._ids[folder], env_steps, metrics)
        self._env_steps[folder] = env_steps
        sent = {"run_id": self._ids[folder], "env_steps": env_steps}
        replace_text(Path(folder, tracking_file(self._name)), json.dumps(sent))

    def _end(self, folder: str, state: str) -> None:
        self._tracker.end(self._ids.pop(folder), state)


def new_tracker(name: str, options: dict[str, Any]) -> Tracker:
    """The tracker of a name; its library is imported here, in this process only."""
    if name == "wandb":
        from rlssl.experiment.tracking.wandb_tracker import WandbTracker

        return WandbTracker(**options)
    from rlssl.experiment.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(**options)


def run(name: str, options: dict[str, Any], lines: Iterable[str]) -> None:
    """Handles messages until there are no more, because the run or the driver has ended."""
    # What libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(error: str) -> None:
        replies.write(json.dumps(error) + "\n")
        replies.flush()

    sender = Sender(name, new_tracker(name, options), report)
    for line in lines:
        sender.handle(json.loads(line))
    sender.end_all()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


if __name__ == "__main__":
    run(sys.argv[1], json.loads(sys.argv[2]), sys.stdin)
