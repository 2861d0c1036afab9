"""Eight runs, each with another fault: all end right, and their summaries account for the faults.

A run that is deterministic has the episodes of a run without a fault.
"""

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlssl.experiment.lock import running
from tests.cluster.clusters import Nodes
from tests.experiment.command_line import only_trial, results, rlssl
from tests.experiment.faults.run_processes import (
    COMMAND,
    Run,
    kill_driver,
    runs,
    small_disk,
    state_files,
    wait_until_unchanged,
)

__all__ = ["runs"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Starts a run with more options, and returns it when it has two checkpoints.
Start = Callable[..., Run]

WATCHDOG = ["--set", "watchdog_s=20"]
#: Several EnvRunners are not deterministic.
RUNNERS = ["--env-runners", "2", *WATCHDOG]
#: The stop criterion, and the steps of a batch.
END, BATCH = 10_000, 256

RETRY = r"trials restarted: 1: trial \w+ lost a process \(.+\) and continued from [\d,]+ env steps"
RESUMED = "run resumed: 1: the process of the run had been killed"


def killed_env_runner(start: Start) -> str:
    run = start(*RUNNERS)
    run.kill("ray::VectorEnvRunner")
    return run.finish()[0]


def frozen_env_runner(start: Start) -> str:
    run = start(*RUNNERS)
    run.kill("ray::VectorEnvRunner", signal.SIGSTOP)
    return run.finish()[0]


def frozen_trial(start: Start) -> str:
    run = start(*WATCHDOG)
    run.kill("ray::SpecTrainable", signal.SIGSTOP)
    return run.finish()[0]


def killed_raylet(start: Start) -> str:
    nodes = Nodes()
    try:
        nodes.only(1, 1)
        run = start("--address", nodes.address)
        (home,) = nodes.actors("SpecTrainable")
        nodes.remove(home)
        return run.finish()[0]
    finally:
        nodes.shutdown()


def killed_driver(start: Start) -> str:
    run = start()
    kill_driver(run)
    return rlssl("resume", str(run.folder), cwd=run.folder)[0]


def full_disk(start: Start) -> str:
    run = start("--set", "report_every_s=0")
    filler = run.folder.parent / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2**25)
    wait_until_unchanged(run.trial() / "result.json", for_s=3.0)
    filler.unlink()
    return run.finish()[0]


def truncated_state(start: Start) -> str:
    run = start()
    kill_driver(run)
    assert state_files(run.folder)
    for path in state_files(run.folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return rlssl("resume", str(run.folder), cwd=run.folder)[0]


def second_resume(start: Start) -> str:
    run = start()
    kill_driver(run)
    first = start("resume", str(run.folder))
    deadline = time.monotonic() + 120
    while not running(run.folder):
        assert first.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    rlssl("resume", str(run.folder), cwd=run.folder, code=3)
    return first.finish()[0]


class Case(NamedTuple):
    """What hits a run, and the lines of its summary: patterns, each with whether it must be there.

    The function returns what the run, or the command that continued it, has printed at its end.
    """

    hit: Callable[[Start], str]
    lines: dict[str, bool]
    is_deterministic: bool = True


LOST_RUNNER = {"EnvRunners restarted: 1": True, "episodes abandoned: 8": True}
CASES = {
    "EnvRunner killed": Case(killed_env_runner, LOST_RUNNER, False),
    "EnvRunner frozen": Case(frozen_env_runner, LOST_RUNNER, False),
    "trial frozen": Case(
        frozen_trial,
        {
            r"trials killed without a sign of life: 1: trial \w+ was silent for 20 s": True,
            RETRY: True,
        },
    ),
    "raylet killed": Case(killed_raylet, {RETRY: True}),
    "driver killed": Case(killed_driver, {RESUMED: True}),
    "disk full": Case(
        full_disk,
        {
            r"disk failures: 1: No space left on device, 0 MB free; all was written .+ later": True,
            # None, if no checkpoint was due.
            r"failures to write checkpoints: 1: trial \w+: no checkpoint at .+": False,
        },
    ),
    "state truncated": Case(
        truncated_state, {"Ray Tune's state rebuilt: 1: damaged or lost: .+": True, RESUMED: True}
    ),
    "second resume": Case(
        second_resume, {RESUMED: True, "second resumes refused: 1: run is running: .+": True}
    ),
}


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """The folder of the runs, on a small disk for the case that fills it."""
    if request.node.callspec.params["case"] != "disk full":
        yield
        return
    with small_disk(tmp_path / "results"):
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trial of a run without a fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    printed, _ = rlssl(*COMMAND, "--name", "run", cwd=folder)
    assert fault_lines(printed) == []
    return only_trial(folder / "results" / "run")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("storage")
def test_run_ends_right_and_its_summary_accounts_for_the_fault(
    runs: Any, case: str, undisturbed: Path, tmp_path: Path
) -> None:
    hit, lines, is_deterministic = CASES[case]

    def start(*options: str) -> Run:
        run: Run
        if options[:1] == ("resume",):
            run = runs(None, *options)
        else:
            run = runs("run", *COMMAND, *options)
            run.wait_for_checkpoints(2)
        return run

    printed = hit(start)
    trial = only_trial(tmp_path / "results" / "run")
    steps = [int(row["env_steps"]) for row in results(trial)]
    assert END <= steps[-1] < END + BATCH
    if is_deterministic:
        assert steps[-1] == results(undisturbed)[-1]["env_steps"]
        episodes = [(each / "episodes.csv").read_text() for each in (trial, undisturbed)]
        assert episodes[0] == episodes[1]
    again, _ = rlssl("summary", str(trial.parent), cwd=tmp_path)
    told = fault_lines(printed)
    assert told == fault_lines(again)
    matched = {line: [one for one in lines if re.fullmatch(one, line)] for line in told}
    assert all(matched.values()), told
    found = {pattern for patterns in matched.values() for pattern in patterns}
    assert {pattern for pattern, is_needed in lines.items() if is_needed} <= found, told


def fault_lines(printed: str) -> list[str]:
    """The lines below "Faults of the run:" in a summary."""
    _, _, after = printed.partition("Faults of the run:\n")
    lines = []
    for line in after.splitlines():
        if not line.startswith("  "):
            break
        lines.append(line.strip())
    return lines
