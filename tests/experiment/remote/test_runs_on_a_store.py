"""Runs whose storage is a bucket of a real S3 server: killed, resumed, evaluated, exported."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl import load_policy
from rlssl.run_files import MANIFEST
from tests.experiment.command_line import results, rlssl, wait_for_checkpoints
from tests.experiment.remote.store_server import BUCKET, StoreServer, server, set_keys

__all__ = ["server"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: StoreServer) -> None:
    monkeypatch.setenv("RLSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    set_keys(monkeypatch)


def write_sweep(folder: Path, storage: str, **changes: Any) -> Path:
    document = {
        "name": "ppo",
        "algorithm": "ppo",
        "env": {"id": "CartPole-v1"},
        "env_runners": {"num_envs": 2, "fragment_length": 100},
        "training": {"train_batch_size_per_learner": 200, "num_epochs": 2},
        "search": {"training.lr": {"grid": [1.0e-3, 1.0e-4]}},
        "stop": {"env_steps": 6000},
        "checkpoint": {"every_env_steps": 600},
        "storage": storage,
        **changes,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def committed(server: StoreServer, run: str) -> list[str]:
    return [name for name in server.names(run) if name.endswith(MANIFEST)]


def test_a_killed_sweep_goes_on_from_the_store_alone(server: StoreServer, tmp_path: Path) -> None:
    storage = f"s3://{BUCKET}/killed"
    sweep = write_sweep(tmp_path, storage)
    process = subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", "sweep", str(sweep)],
        cwd=tmp_path,
        stdout=(tmp_path / "output").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    run = wait_for_run(process, tmp_path / "cache")
    wait_for_checkpoints(process, run, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = committed(server, "killed")
    assert before, (tmp_path / "output").read_text()
    steps = [json.loads(server.read(name))["env_steps"] for name in before]
    shutil.rmtree(tmp_path / "cache")  # as on another machine

    printed, errors = rlssl("resume", f"{storage}/ppo", cwd=tmp_path)
    # The trials' processes outlive the driver for seconds, and may commit once more.
    assert max(continued_after(printed + errors)) >= max(steps)
    trials = [path.parent for path in sorted(run.glob("*/trial.json"))]
    assert len(trials) == 2
    for trial in trials:
        assert results(trial)[-1]["env_steps"] >= 6000
        assert results(trial)[-1]["done"]
    assert any(results(trial)[0]["env_steps"] < min(steps) for trial in trials)

    # Everything is readable on a machine that has nothing.
    shutil.rmtree(tmp_path / "cache")
    listed = json.loads(rlssl("runs", "--storage", storage, "--json", cwd=tmp_path)[0])
    assert [(row["name"], row["state"], row["trials"]) for row in listed] == [
        ("ppo", "finished", 2)
    ]
    assert listed[0]["env_steps"] >= 12_000
    assert listed[0]["path"] == f"{storage}/ppo"
    table, _ = rlssl("summary", "ppo", "--storage", storage, cwd=tmp_path)
    assert "2" in table
    scores = rlssl("evaluate", f"{storage}/ppo", "--episodes", "2", "--json", cwd=tmp_path)[0]
    assert len(json.loads(scores)) == 2
    trial_uri = f"{storage}/ppo/{trials[0].name}"
    rlssl("export", trial_uri, "--out", "exported", cwd=tmp_path)
    assert (tmp_path / "exported" / "policy.json").is_file()
    assert load_policy(trial_uri).settings["env"]["id"] == "CartPole-v1"
    assert {name.split("/")[2] for name in server.names("killed/ppo") if "table" in name} == {
        "table.csv"
    }
    finished, _ = rlssl("resume", f"{storage}/ppo", cwd=tmp_path)
    assert "has finished" in finished


def continued_after(text: str) -> list[int]:
    """The env steps after which the trials of a resumed run continue."""
    found = re.findall(r"Continuing after ([\d,]+) env steps", text)
    return [int(number.replace(",", "")) for number in found]


def wait_for_run(process: "subprocess.Popen[Any]", cache: Path) -> Path:
    """Waits until a run has a local copy; returns its folder."""
    deadline = time.monotonic() + 240
    while not (found := list(cache.glob("stores/*/lab/*/ppo"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found[0]


@pytest.mark.parametrize(
    ("storage", "code", "words"),
    [
        ("s5://lab/results", 2, "unknown scheme 's5'"),
        ("s3://nobody/results", 3, "there is no bucket 'nobody'"),
    ],
)
def test_a_storage_that_cannot_be_used_ends_before_anything_starts(
    tmp_path: Path, storage: str, code: int, words: str
) -> None:
    sweep = write_sweep(tmp_path, storage)
    _, errors = rlssl("sweep", str(sweep), cwd=tmp_path, code=code)
    assert f"storage '{storage}'" in errors
    assert words in errors
    assert not (tmp_path / "cache").exists()


def test_a_store_that_is_frozen_for_a_minute_delays_a_run_and_loses_nothing(
    server: StoreServer, tmp_path: Path
) -> None:
    storage = f"s3://{BUCKET}/frozen"
    every_row = {"search": {}, "stop": {"env_steps": 20_000}, "report_every_s": 0}
    sweep = write_sweep(tmp_path, storage, **every_row)
    process = subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", "sweep", str(sweep)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = wait_for_run(process, tmp_path / "cache")
    wait_for_checkpoints(process, run, 1)
    with server.frozen():
        try:
            printed, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            printed = ""
    printed += process.communicate(timeout=400)[0]
    assert process.returncode == 0, printed
    assert "is not at s3://" in printed or "Cannot write to s3://" in printed
    steps = [json.loads(server.read(name))["env_steps"] for name in committed(server, "frozen")]
    assert max(steps) >= 20_000
    shutil.rmtree(tmp_path / "cache")
    rlssl("summary", f"{storage}/ppo", cwd=tmp_path)
    (trial,) = run.glob("*/trial.json")
    rows = [0, *(row["env_steps"] for row in results(trial.parent))]
    # An iteration has 200 env steps, and a few more of the second environment.
    assert all(0 < later - row < 210 for row, later in itertools.pairwise(rows))
    assert rows[-1] == max(steps)
