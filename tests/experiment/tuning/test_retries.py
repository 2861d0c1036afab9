"""A trial is retried after the death of a process, not after an error that would repeat."""

from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError
from ray.tune.experiment import Trial

from rlssl.errors import EnvironmentFaultError, NonFiniteUpdateError, TrainingTimeoutError
from rlssl.experiment.tuning.callbacks import root_cause
from rlssl.experiment.tuning.retries import came_from_outside, only_dead_processes_retried


class LocalTrial(Trial):
    """A trial whose folder can be set; Tune asks a running Ray for it."""

    local_path = ""


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
    trial = LocalTrial("PPO", stub=True, max_failures=1)
    trial.local_path = str(tmp_path)
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


def test_root_cause_is_the_innermost_error_in_one_line() -> None:
    error = in_a_task(in_a_task(ValueError("the robot fell over\nand lay there")))
    assert root_cause(error) == "ValueError: the robot fell over"
