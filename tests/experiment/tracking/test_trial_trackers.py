"""Results in real trackers: the right curves, also after a kill; and trackers that fail."""

import json
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import StorageContext

from rlssl.experiment.spec import load_spec, resolved_dict
from rlssl.experiment.spec.trackers import MlflowOptions, WandbOptions
from rlssl.experiment.tracking.checks import mlflow_uri
from rlssl.experiment.tracking.process import TrackerProcess
from rlssl.experiment.tuning.trackers import TrialTracker, tracking_id
from rlssl.experiment.tuning.trial_config import SEED_KEY, SPEC_KEY
from rlssl.video.encoder import video_file
from tests.experiment.tracking.stores import Curve, mlflow_curve, wandb_curve, wandb_records

METRIC = "episode_return_mean"
SPEC = load_spec(
    {
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "auxiliary": {"icm": {}},
        "search": {"training.lr": {"grid": [0.1, 0.2]}},
        "seeds": [3],
        "stop": {"env_steps": 400},
    }
)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A trial of Tune, whose folder is below ``tmp_path``."""
    storage = StorageContext(str(tmp_path), "run", trial_dir_name="trial")
    folder = Path(storage.trial_fs_path)
    folder.mkdir(parents=True)
    (folder.parent / "run.json").write_text('{"started": 7.5}')
    (folder / "spec.yaml").write_text("effective: {training: {gamma: 0.97}}\n")
    config = {SPEC_KEY: resolved_dict(SPEC), SEED_KEY: 3, "training.lr": 0.1}
    return Trial("ppo", stub=True, config=config, trial_id="t1", storage=storage)


def folder_of(trial: Trial) -> Path:
    return Path(trial.storage.trial_fs_path)


def track(tracker: TrialTracker, trial: Trial, steps: Sequence[int]) -> None:
    """What Tune calls for the results of a trial that starts or continues."""
    tracker.on_trial_start(0, [trial], trial)
    for env_steps in steps:
        result = {"env_steps": env_steps, METRIC: env_steps / 10, "pid": 7}
        tracker.on_trial_result(0, [trial], trial, result)


def kill_the_driver_of(tracker: TrialTracker) -> None:
    """Closes the pipe, as the death of the driver does, and waits for the tracker's process."""
    process = tracker._process
    assert process is not None
    process._waiting.put(None)
    assert process._process.wait(60) == 0


def sent(trial: Trial, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder_of(trial) / f"tracking_{name}.json").read_text())
    return content


def curve(trial: Trial, name: str, uri: str) -> Curve:
    run_id = sent(trial, name)["run_id"]
    if name == "wandb":
        return wandb_curve(folder_of(trial).parent, run_id, METRIC)
    return mlflow_curve(uri, run_id, METRIC)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_resumed_trial_appends_to_its_curve_and_repeats_nothing(
    trial: Trial, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/store.db"
    options = {"wandb": WandbOptions(mode="offline"), "mlflow": MlflowOptions(uri=uri)}[name]
    first = TrialTracker(name, options, str(tmp_path))
    track(first, trial, [100, 200, 300])
    kill_the_driver_of(first)
    # The newest checkpoint was at 100 env steps. Tune gives rebuilt trials a new id.
    trial.trial_id = "t2"
    second = TrialTracker(name, options, str(tmp_path))
    track(second, trial, [200, 300, 400])
    second.on_trial_complete(0, [trial], trial)
    second.on_experiment_end([trial])
    assert curve(trial, name, uri) == [(100, 10.0), (200, 20.0), (300, 30.0), (400, 40.0)]
    assert sent(trial, name)["env_steps"] == 400
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_video_is_sent_once(name: str, trial: Trial, tmp_path: Path) -> None:
    video = folder_of(trial) / "videos" / "000000000200.mp4"
    with video_file(video, 25.0) as opened:
        opened.append(np.zeros((16, 16, 3), np.uint8))
    options: Any = WandbOptions(mode="offline") if name == "wandb" else MlflowOptions()
    tracker = TrialTracker(name, options, str(tmp_path))
    tracker.on_trial_start(0, [trial], trial)
    for env_steps in (100, 200, 300):
        result: dict[str, Any] = {"env_steps": env_steps, METRIC: 1.0}
        if env_steps == 200:
            result["video"] = {"env_steps": 200, "path": "videos/000000000200.mp4"}
        tracker.on_trial_result(0, [trial], trial, result)
    tracker.on_experiment_end([trial])
    run, run_id = folder_of(trial).parent, str(sent(trial, name)["run_id"])
    if name == "wandb":
        (copy,) = run.glob("wandb/offline-run-*/files/media/videos/*.mp4")
        assert copy.read_bytes() == video.read_bytes()
        assert wandb_curve(run, run_id, METRIC) == [(100, 1.0), (200, 1.0), (300, 1.0)]
    else:
        client = MlflowClient(tracking_uri=mlflow_uri(options, str(tmp_path)))
        (artifact,) = client.list_artifacts(run_id, "videos")
        assert artifact.path == "videos/000000000200.mp4"
        assert artifact.file_size == video.stat().st_size
        # Beside the database, and not in the folder of the process.
        (copy,) = (tmp_path / "mlartifacts").glob("*/artifacts/videos/*.mp4")
        assert copy.read_bytes() == video.read_bytes()


@pytest.mark.slow
@pytest.mark.ci
def test_wandb_shows_what_a_trial_is(trial: Trial, tmp_path: Path) -> None:
    tracker = TrialTracker("wandb", WandbOptions("mine", mode="offline"), str(tmp_path))
    track(tracker, trial, [100])
    tracker.on_experiment_end([trial])
    (run,) = [record.run for _, record in wandb_records(tmp_path / "run") if record.HasField("run")]
    config = {it.key: json.loads(it.value_json) for it in run.config.update}
    assert (run.project, run.run_group, run.display_name) == ("mine", "run", "lr=0.1 seed 3")
    assert run.run_id == tracking_id(tmp_path / "run", {"training.lr": 0.1}, 3)
    assert list(run.tags)[:2] == ["ppo", "icm"] and run.tags[2].startswith("commit ")
    assert config["training"] == {"gamma": 0.97} and config["seed"] == 3


def test_a_frozen_tracker_delays_the_driver_by_a_bounded_time(tmp_path: Path) -> None:
    options = {"uri": f"sqlite:///{tmp_path}/store.db", "experiment": "run"}
    process = TrackerProcess("mlflow", options, tmp_path / "log")
    os.kill(process._process.pid, signal.SIGSTOP)
    begin = time.monotonic()
    for env_steps in range(2_000):
        process.send({"do": "log", "folder": "t", "env_steps": env_steps, "metrics": {"a" * 99: 1}})
    assert time.monotonic() - begin < 1
    process.close(wait_s=0.5)
    assert time.monotonic() - begin < 10
    assert process.num_lost >= 1 and "had not sent everything after 0.5 s" in process.last_error


def test_a_dead_tracker_fails_no_trial_and_is_named_on_the_terminal(
    trial: Trial, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = TrialTracker("mlflow", MlflowOptions(), str(tmp_path))
    track(tracker, trial, [100])
    assert tracker._process is not None
    os.kill(tracker._process._process.pid, signal.SIGKILL)
    tracker._process._process.wait()
    track(tracker, trial, [200, 300, 400])
    tracker.on_trial_complete(0, [trial], trial)
    tracker.on_experiment_end([trial])
    words = capfd.readouterr().err
    assert words.startswith("mlflow: ") and "events were not sent; the last error: its p" in words
    assert "tracking_mlflow.log" in words and "progress.csv have every result." in words


@pytest.mark.slow
@pytest.mark.ci
def test_errors_of_a_store_are_counted_and_shown(
    trial: Trial, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/store.db"
    tracker = TrialTracker("mlflow", MlflowOptions(uri=uri), str(tmp_path))
    track(tracker, trial, [100])
    refused = {"env_steps": 200, "no {such} name": 1.0}
    tracker.on_trial_result(0, [trial], trial, refused)
    tracker.on_trial_result(0, [trial], trial, {"env_steps": 300, METRIC: 30.0})
    tracker.on_experiment_end([trial])
    assert re.match(
        "mlflow: 1 results or events were not sent; the last error: MlflowException: Invalid value",
        capfd.readouterr().err,
    )
    assert curve(trial, "mlflow", uri) == [(100, 10.0), (300, 30.0)]
