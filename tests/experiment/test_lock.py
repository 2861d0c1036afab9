"""One process at a time runs a run: tested with processes that die, stop, continue and race."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlssl.errors import ResourceError
from rlssl.experiment import lock
from rlssl.experiment.lock import STALE_S, Owner, held, running
from rlssl.run_files import LOCK_FILE

#: Holds the lock of a folder until its stdin closes, with a heartbeat every 0.1 s.
HOLD = """
import sys
from pathlib import Path
from rlssl.experiment import lock
lock.HEARTBEAT_S = 0.1
sys.stdin.readline()
try:
    with lock.held(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except lock.ResourceError as error:
    print(error, flush=True)
"""


class Process:
    """A process that takes the lock as soon as it is told to."""

    def __init__(self, folder: Path) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()

    def kill(self) -> None:
        """Kills the process; its entry in the system's table stays, since nobody waits for it."""
        self.popen.kill()
        os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT)

    def says(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "ppo"
    folder.mkdir()
    return folder


@pytest.fixture
def start(run: Path) -> Iterator[Any]:
    processes: list[Process] = []

    def start_one(*, at_once: bool = True) -> Process:
        processes.append(Process(run))
        if at_once:
            processes[-1].go()
        return processes[-1]

    yield start_one
    for process in processes:
        process.popen.kill()
        process.popen.communicate()


def make_silent(run: Path) -> None:
    """Sets the last sign of life of the lock to a minute ago."""
    past = time.time() - STALE_S - 1
    os.utime(run / LOCK_FILE, (past, past))


def test_the_lock_names_its_owner_and_is_gone_afterwards(run: Path) -> None:
    with held(run):
        content = json.loads((run / LOCK_FILE).read_text())
        assert content["pid"] == os.getpid()
        assert {"host", "user", "process_started"} <= content.keys()
        assert running(run)
    assert not running(run)
    assert list(run.iterdir()) == []


def test_a_second_process_is_refused_with_the_owner_and_its_age(run: Path, start: Any) -> None:
    first = start()
    assert first.says() == "held"
    with pytest.raises(ResourceError) as refused, held(run):
        pass
    assert f"(process {first.popen.pid}); last sign of life " in str(refused.value)
    assert running(run)


def test_the_lock_of_a_killed_process_is_taken_over_at_once(run: Path, start: Any) -> None:
    first = start()
    assert first.says() == "held"
    first.kill()
    with held(run) as taken:
        assert taken.owner.number == 2
    assert list(run.iterdir()) == []


def test_a_later_process_with_the_same_id_does_not_own_the_lock(run: Path) -> None:
    dead = {**json.loads(Owner.this_process().encode()), "process_started": "1"}
    (run / LOCK_FILE).write_text(json.dumps(dead))
    assert not running(run)


@pytest.mark.parametrize("silent", [False, True])
def test_a_process_on_another_machine_owns_the_lock_until_it_is_silent(
    run: Path, silent: bool
) -> None:
    # Process 1 of this machine lives; it would tell nothing about process 1 of another machine.
    other = {**json.loads(Owner.this_process().encode()), "machine": "another", "pid": 2**22}
    (run / LOCK_FILE).write_text(json.dumps(other))
    if silent:
        make_silent(run)
    assert running(run) is not silent


def test_a_frozen_process_loses_its_lock_and_stops_when_it_continues(run: Path, start: Any) -> None:
    first = start()
    assert first.says() == "held"
    first.popen.send_signal(signal.SIGSTOP)
    make_silent(run)
    with held(run):
        first.popen.send_signal(signal.SIGCONT)
        assert first.popen.wait(timeout=30) == 3
        errors = first.popen.stderr.read()
        assert f"was taken over by {lock.Owner.this_process()}" in errors
        assert running(run)
    assert list(run.iterdir()) == []


def test_one_of_several_processes_wins_a_stale_lock(run: Path, start: Any) -> None:
    first = start()
    assert first.says() == "held"
    first.kill()
    others = [start(at_once=False) for _ in range(6)]
    for other in others:
        other.go()
    answers = [other.says() for other in others]
    assert answers.count("held") == 1, answers
    assert all("is running" in answer for answer in answers if answer != "held")


def test_a_process_that_died_while_it_took_the_lock_over_is_followed_by_another(run: Path) -> None:
    owner = json.loads(Owner.this_process().encode())
    dead = {**owner, "process_started": "1"}
    (run / LOCK_FILE).write_text(json.dumps(dead))
    (run / f"{LOCK_FILE}.2").write_text(json.dumps({**dead, "number": 2}))
    with held(run) as taken:
        assert taken.owner.number == 3
        assert running(run)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": 1'])
def test_a_damaged_lock_counts_by_its_age_alone(run: Path, content: str) -> None:
    (run / LOCK_FILE).write_text(content)
    with pytest.raises(ResourceError, match="an unknown process"), held(run):
        pass
    make_silent(run)
    with held(run):
        assert running(run)
    assert list(run.iterdir()) == []


def test_a_lock_file_that_somebody_deletes_is_written_again(run: Path, start: Any) -> None:
    process = start()
    assert process.says() == "held"
    (run / LOCK_FILE).unlink()
    deadline = time.monotonic() + 30
    while not (run / LOCK_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(run)


def test_of_two_processes_with_the_same_number_the_one_that_wrote_last_stays(
    run: Path, start: Any
) -> None:
    """An object store may let both create the lock."""
    first = start()
    first.go()
    assert first.says() == "held"
    (run / LOCK_FILE).write_bytes(Owner.this_process().encode())
    assert first.popen.wait(timeout=30) == 3
    assert "was taken over by" in first.popen.stderr.read()
    assert (run / LOCK_FILE).exists()
