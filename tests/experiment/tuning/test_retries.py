"""A trial is tried again after a death, not after an error that would come again."""

from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError
from ray.tune.experiment import Trial

from rlssl.errors import EnvironmentFaultError, NonFiniteUpdateError, TrainingTimeoutError
from rlssl.experiment.tuning.callbacks import root_cause
from rlssl.experiment.tuning.retries import came_from_outside, only_dead_processes_retried


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
def test_only_what_came_from_outside_is_tried_again(
    error: BaseException | None, is_retried: bool
) -> None:
    assert came_from_outside(error) is is_retried


def test_tunes_decision_is_asked_and_narrowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial("PPO", stub=True, max_failures=1)
    monkeypatch.setattr(type(trial), "local_path", str(tmp_path))
    with only_dead_processes_retried():
        trial.handle_error(in_a_task(ZeroDivisionError()))
        assert not trial.should_recover()
        trial.run_metadata.num_failures = 0
        trial.handle_error(in_a_task(ActorDiedError()))
        assert trial.should_recover()
        trial.handle_error(in_a_task(ActorDiedError()))
        assert not trial.should_recover()  # twice, where once is allowed
    trial.run_metadata.num_failures = 0
    trial.handle_error(in_a_task(ZeroDivisionError()))
    assert trial.should_recover()  # Tune's own again


def test_the_first_cause_is_what_is_said() -> None:
    error = in_a_task(in_a_task(ValueError("the robot fell over\nand lay there")))
    assert root_cause(error) == "ValueError: the robot fell over"
