"""`rlssl watch`: a running sweep on a terminal, and its state for scripts."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlssl.experiment.commands.watching.watch import watch
from rlssl.experiment.lock import held
from tests.analysis.live.running_runs import RunningRun

COMMAND = [sys.executable, "-m", "rlssl.cli", "watch"]


@pytest.fixture
def run(tmp_path: Path) -> RunningRun:
    run = RunningRun(tmp_path / "lr")
    run.report(run.begin(0, 0), 250, 1.0)
    return run


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60)


def test_off_a_terminal_it_prints_the_present_state_and_ends(
    run: RunningRun, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(run.folder):
        assert watch("lr", storage=str(run.folder.parent)) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "▁" in printed
    assert "lr is running: 0 of 4 trials finished, 1 running, 3 waiting; 6% of" in printed


def test_json_has_no_numbers_that_are_not_finite(
    run: RunningRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.begin(0, 1)
    with held(run.folder):
        assert watch(str(run.folder), as_json=True) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert found["state"] == "running"
    assert [trial["last_return"] for trial in found["trials"]] == [1.0, None]


def test_faults_of_the_run_are_below_the_table(
    run: RunningRun, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlssl.experiment.fault_log import note_fault

    note_fault(run.folder, "resumed", "its process was killed")
    faults = {"env_crashes": 2, "env_runner_restarts": 1}
    run.report(run.begin(1, 1), 100, 1.0, faults=faults)
    watch(str(run.folder), once=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Faults")] == [
        "Faults: environments: 2 crashes",
        "Faults: EnvRunners restarted: 1",
        "Faults: run resumed: 1: its process was killed",
    ]
    assert any(line.startswith("lr is interrupted") for line in lines)


def test_an_unknown_run_is_refused_with_names_near_it(run: RunningRun) -> None:
    found = command("lrr", "--storage", str(run.folder.parent))
    assert found.returncode == 2
    assert "no run 'lrr'" in found.stderr and "did you mean 'lr'?" in found.stderr


def test_a_run_that_still_checks_its_spec(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    with held(folder):
        found = command("new", "--storage", str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "No trial has begun yet."


class Terminal:
    """A command on a terminal of 24 lines and 100 columns."""

    def __init__(self, *words: str) -> None:
        self._own, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
        # A shell lets tests in the background ignore Ctrl-C, and a child inherits that.
        command = ["env", "--default-signal=INT", *COMMAND, *words]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self.shown = ""

    def read_until(self, words: str) -> None:
        """Reads until words are on the screen."""
        end = time.monotonic() + 60
        while words not in self.shown:
            assert time.monotonic() < end, self.shown
            self._read()

    def wait(self) -> int:
        """The exit code."""
        try:
            while True:
                self._read()
        except OSError:  # Linux says so when the other end is closed
            return self.process.wait(timeout=60)
        finally:
            os.close(self._own)

    def _read(self) -> None:
        letters = os.read(self._own, 65536).decode(errors="replace")
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", letters)


@pytest.fixture
def terminal(run: RunningRun) -> Iterator[Any]:
    with held(run.folder):
        shown = Terminal(str(run.folder), "--interval", "0.2")
        try:
            yield shown
        finally:
            shown.process.kill()
            shown.process.wait()


def test_the_table_follows_the_run_and_ends_with_it(run: RunningRun) -> None:
    with held(run.folder):
        shown = Terminal(str(run.folder), "--interval", "0.2")
        shown.read_until("250")
        run.report(run.folder / "point0-seed0", 777, 2.0)
        shown.read_until("777")
        run.end("failed")
    assert shown.wait() == 0
    assert "lr is failed" in shown.shown


def test_ctrl_c_ends_with_the_code_of_an_interrupted_command(terminal: Terminal) -> None:
    terminal.read_until("lr is running")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 130
    assert "interrupted." in terminal.shown


def test_it_imports_neither_torch_nor_ray() -> None:
    code = """
import sys
import rlssl.experiment.commands.watching.watch
print(sorted({"torch", "ray", "gymnasium", "matplotlib"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"
