"""episodes.csv holds each episode once, also after a trial went back to a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import StorageContext

from rlssl.experiment.tuning.callbacks import EnvFaults, start_episodes_file


def test_rows_after_the_checkpoint_and_incomplete_rows_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text("env_steps,return,length,success\n100,1.0,5,nan\n250,2.0,6,1.0\n300,3.")
    start_episodes_file(path, keep_until=200)
    assert path.read_text().splitlines() == ["env_steps,return,length,success", "100,1.0,5,nan"]


def test_new_file_has_the_header(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    start_episodes_file(path, keep_until=0)
    assert path.read_text().splitlines() == ["env_steps,return,length,success"]


def test_failing_environments_are_told_at_once_and_then_once_a_period(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = StorageContext(str(tmp_path), "run", trial_dir_name="trial")
    trial = Trial("ppo", stub=True, trial_id="t1", storage=storage)
    callback = EnvFaults()

    def report(crashes: int, **more: Any) -> str:
        result = {"faults": {"env_crashes": crashes, "bad_rewards": 1}, **more}
        callback.on_trial_result(0, [trial], trial, result)
        return capsys.readouterr().err

    assert report(0) == ""
    said = report(2, latest_env_fault="environment 'x' failed in step(): KeyError: 1")
    assert said.startswith("environments: 2 crashes, 1 bad rewards so far; the latest: environment")
    assert said.endswith("KeyError: 1. First tracebacks: " + f"{tmp_path}/run/trial/env_faults\n")
    assert report(3, latest_env_fault="later") == ""
    callback.period_s = 0.0
    assert "3 crashes" in report(3, latest_env_fault="later")
    # No new fault: nothing to say.
    assert report(3) == report(3, latest_env_fault="later") == ""


def test_bytes_that_are_no_utf_8_spoil_only_their_line(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    rows = [b"env_steps,return,length,success", b"100,1.0,5,nan", b"\xff\x00\xfe,2", b"150,2.0,6,1"]
    path.write_bytes(b"\r\n".join(rows) + b"\r\n")
    start_episodes_file(path, keep_until=200)
    assert path.read_text().splitlines() == [rows[0].decode(), rows[1].decode(), rows[3].decode()]
