"""The end of `rlssl sweep`: the table, what it leaves out, and the exit code."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rlssl.errors import ExitCode, ResourceError
from rlssl.experiment.commands.summary import (
    at_their_ends,
    finish_sweep,
    finish_training,
    summary,
)
from rlssl.experiment.lock import held

WriteTrial = Callable[..., Path]
DONE = [{"env_steps": 100, "done": True}]


def test_table_says_which_trial_it_leaves_out_and_which_line(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_run(seeds=[0, 1])
    write_trial("a", seed=0, returns=[1.0], results=DONE)
    write_trial("b", seed=1, returns=[5.0])
    with (sweep / "a" / "episodes.csv").open("ab") as file:
        file.write(b"\xff,1,1,1\n")
    assert finish_sweep(sweep) == ExitCode.OK
    printed = capsys.readouterr()
    assert "sweep: ppo on CartPole-v1, 1 seed" in printed.out
    assert "1 of 2 seeds" in printed.out
    assert f"unfinished at 100 env steps: {sweep / 'b'}" in printed.out
    assert f"{sweep / 'a' / 'episodes.csv'}, line 3, is not a row of numbers" in printed.err
    assert not at_their_ends(sweep)


def test_seeds_without_a_result_are_named(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_run([{"x": 0}, {"x": 1}], seeds=[0, 1, 2])
    write_trial("a", point={"x": 0}, seed=0, results=DONE)
    error = write_trial("b", point={"x": 0}, seed=1, results=[]) / "error.txt"
    error.write_text("ValueError: broken")
    assert finish_sweep(sweep) == ExitCode.OK
    printed = capsys.readouterr().out.splitlines()
    assert "without a result: seed 1 of x=0; seed 2 of x=0; all seeds of point 1" in printed
    assert f"trials that failed before their first result: 1: {error}" in printed
    assert not any("is still running" in line for line in printed)


def test_a_table_that_cannot_be_written_is_named(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_run()
    write_trial("a", results=DONE)
    (sweep / "table.csv").mkdir()
    words = f"cannot write {sweep / 'table.csv'}: is a directory; for a report elsewhere, use"
    with pytest.raises(ResourceError, match=re.escape(words)):
        finish_sweep(sweep)
    assert "1 seed" in capsys.readouterr().out  # the table is printed all the same


def test_summary_says_that_the_run_is_still_running(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_run(seeds=[0, 1])
    write_trial("a", seed=0, results=DONE)
    with held(sweep):
        assert summary(str(sweep)) == ExitCode.OK
    words = "sweep is still running: 1 of 2 trials finished, 1 without a result."
    assert words in capsys.readouterr().out
    assert words in (sweep / "report.html").read_text()
    assert summary(str(sweep)) == ExitCode.OK
    assert "still running" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"garbage\n{}\n", "result.json, line 1, is not JSON"), (b"", "no trial has reported yet")],
)
def test_table_that_cannot_be_read_is_no_success(
    write_trial: WriteTrial,
    write_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    words: str,
) -> None:
    sweep = write_run()
    (write_trial("a") / "result.json").write_bytes(content)
    assert finish_sweep(sweep) == ExitCode.TRIAL_FAILED
    assert words in capsys.readouterr().err


def test_trials_of_a_stopped_point_are_at_their_ends(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run([{"x": 0}, {"x": 1}], stopped={1: 50})
    write_trial("a", point={"x": 0}, results=DONE)
    write_trial("b", point={"x": 1})
    assert at_their_ends(sweep)


def test_training_without_a_finished_episode_has_no_score(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run()
    write_trial("a", returns=[], results=DONE)
    assert finish_training(run) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[0] == "no finished episode, 100 env steps"


def test_training_from_data_without_an_evaluation_says_so(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run()
    write_trial("a", returns=[], results=[{"updates": 20}])
    assert finish_training(run) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[0] == "not evaluated, 20 updates"


def test_a_report_that_cannot_be_made_does_not_fail_the_sweep(
    write_trial: WriteTrial, write_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_run(seeds=[0, 1])
    for seed, env in enumerate(("CartPole-v1", "Acrobot-v1")):
        folder = write_trial(str(seed), seed=seed, returns=[1.0], results=DONE)
        (folder / "spec.yaml").write_text(f"name: icm\nalgorithm: ppo\nenv: {{id: {env}}}\n")
    assert finish_sweep(sweep) == ExitCode.OK
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "No report.html: the numbers are of unlike protocols: environment: CartPole-v1 and "
        "Acrobot-v1."
    )
