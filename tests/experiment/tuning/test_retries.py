"""A trial is retried after the death of a process, not after an error that would repeat."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError
from ray.tune.experiment import Trial

from rlssl.errors import (
    EnvironmentFaultError,
    NodeDrainedError,
    NonFiniteUpdateError,
    TrainingTimeoutError,
)
from rlssl.experiment.tuning.callbacks import root_cause
from rlssl.experiment.tuning.retries import (
    came_from_outside,
    moved_by,
    only_dead_processes_retried,
)
from rlssl.run_files import MANIFEST


class LocalTrial(Trial):
    """A trial whose folder can be set; Tune asks a running Ray for it."""

    local_path = ""


def trial_in(folder: Path, max_failures: int) -> LocalTrial:
    trial = LocalTrial("PPO", stub=True, max_failures=max_failures)
    trial.local_path = str(folder)
    trial.storage = SimpleNamespace(trial_fs_path=str(folder))
    return trial


def write_checkpoint(folder: Path, env_steps: int) -> None:
    checkpoint = folder / f"checkpoint_{env_steps:06}"
    checkpoint.mkdir()
    (checkpoint / MANIFEST).write_text(json.dumps({"env_steps": env_steps, "files": {}}))


def in_a_task(cause: Exception) -> RayTaskError:
    return RayTaskError("train", "Traceback ...", cause)


def environment_lost_its_server() -> EnvironmentFaultError:
    error = EnvironmentFaultError("the simulator is gone")
    error.__cause__ = ConnectionResetError("by peer")
    return error


@pytest.mark.parametrize(
    "error, is_retried",
    [
        (ActorDiedError(), True),
        (in_a_task(ActorDiedError()), True),  # a Learner's
        (in_a_task(in_a_task(NodeDiedError("gone"))), True),
        (in_a_task(OSError(28, "No space left on device")), True),
        (in_a_task(ZeroDivisionError()), False),
        (in_a_task(NonFiniteUpdateError("nan")), False),
        (in_a_task(TrainingTimeoutError("still")), False),
        (environment_lost_its_server(), False),
        (in_a_task(in_a_task(environment_lost_its_server())), False),
        (None, False),
    ],
)
def test_only_failures_from_outside_are_retried(
    error: BaseException | None, is_retried: bool
) -> None:
    assert came_from_outside(error) is is_retried


def test_tune_retries_a_dead_process_within_its_limit_and_no_other_error(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, max_failures=1)
    with only_dead_processes_retried():
        trial.handle_error(in_a_task(ZeroDivisionError()))
        assert not trial.should_recover()
        trial.run_metadata.num_failures = 0
        trial.handle_error(in_a_task(ActorDiedError()))
        assert trial.should_recover()
        trial.handle_error(in_a_task(ActorDiedError()))
        assert not trial.should_recover()  # the second failure, and max_failures is 1
    trial.run_metadata.num_failures = 0
    trial.handle_error(in_a_task(ZeroDivisionError()))
    assert trial.should_recover()  # Tune's own decision again


def test_failures_are_counted_since_the_last_new_checkpoint(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, max_failures=1)

    def fails(error: Exception) -> tuple[bool, int]:
        trial.handle_error(error)
        return trial.should_recover(), trial.run_metadata.num_failures

    with only_dead_processes_retried():
        assert fails(ActorDiedError()) == (True, 1)
        for env_steps in (100, 200, 300, 400):
            write_checkpoint(tmp_path, env_steps)
            assert fails(in_a_task(ActorDiedError())) == (True, 1)
        assert fails(ActorDiedError()) == (False, 2)  # twice after the same checkpoint
        write_checkpoint(tmp_path, 399)  # older than the newest one
        assert fails(ActorDiedError()) == (False, 3)


def test_leaving_a_drained_node_is_no_failure(tmp_path: Path) -> None:
    trial = trial_in(tmp_path, max_failures=0)
    with only_dead_processes_retried():
        for _ in range(3):
            # As Ray raises it here: of the class of its cause, with a traceback as its text.
            error = in_a_task(NodeDrainedError("node 0123 is drained")).as_instanceof_cause()
            assert str(moved_by(error)) == "node 0123 is drained"
            trial.handle_error(error)
            assert trial.should_recover() and trial.run_metadata.num_failures == 0
        trial.handle_error(ActorDiedError())
        assert not trial.should_recover()


def test_root_cause_is_the_innermost_error_in_one_line() -> None:
    error = in_a_task(in_a_task(ValueError("the robot fell over\nand lay there")))
    assert root_cause(error) == "ValueError: the robot fell over"
