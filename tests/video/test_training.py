"""Videos in training: files that stay, and a training that does not change."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rlssl.errors import MissingExtraError, SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.trial_check import check_sweep
from rlssl.video.training import record_in_training
from tests.experiment.command_line import only_trial, rlssl
from tests.video.policies import policy_for

CART: dict[str, Any] = {"id": "CartPole-v1"}


def test_a_later_video_does_not_replace_an_earlier_one(tmp_path: Path) -> None:
    # Stable-Baselines3's issue 2061: each video was written over the one before.
    first = record_in_training(policy_for(CART), tmp_path, 100, {}, explore=False)
    content = (tmp_path / first["path"]).read_bytes()
    second = record_in_training(policy_for(CART, 1), tmp_path, 200, {"episodes": 2}, explore=False)
    assert (first["path"], second["path"]) == (
        "videos/000000000100.mp4",
        "videos/000000000200.mp4",
    )
    assert (tmp_path / first["path"]).read_bytes() == content
    assert len(iio.imread(tmp_path / second["path"])) > len(iio.imread(tmp_path / first["path"]))
    assert first["seconds"] > 0 and first["episode_return_mean"] > 0


def test_an_environment_that_fails_to_render_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_display(_: CartPoleEnv) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(CartPoleEnv, "render", no_display)
    found = record_in_training(policy_for(CART), tmp_path, 100, {}, explore=False)
    assert found["failed"] == 1 and "no display" in caplog.text
    assert not list(tmp_path.rglob("*.mp4"))


def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "videos").write_text("a file where the folder should be")
    found = record_in_training(policy_for(CART), tmp_path, 100, {}, explore=False)
    assert found["failed"] == 1 and "path" not in found
    assert "There is no video at 100 env steps" in caplog.text


def spec_with_video(env: Any) -> Any:
    return load_spec(
        {
            "algorithm": "ppo",
            "env": env,
            "evaluation": {"video": {"every_env_steps": 100}},
            "stop": {"env_steps": 200},
        }
    )


def test_an_environment_that_does_not_render_is_refused_before_the_start() -> None:
    with pytest.raises(SpecError, match="environment 'memory/cue' does not render"):
        check_sweep(spec_with_video("memory/cue"))


def test_a_missing_encoder_is_refused_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"rlssl\[video\]"):
        check_sweep(spec_with_video("CartPole-v1"))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ({}, "evaluation.video.every_env_steps is missing: the env steps between two videos."),
        ({"every_env_steps": 0}, "evaluation.video.every_env_steps must be > 0; got 0."),
        ({"every_env_steps": 5, "episodes": 0}, "evaluation.video.episodes must be > 0; got 0."),
    ],
)
def test_wrong_settings_are_refused(video: dict[str, Any], message: str) -> None:
    document = {
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "evaluation": {"video": video},
        "stop": {"env_steps": 200},
    }
    with pytest.raises(SpecError) as caught:
        load_spec(document)
    assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(600)
def test_training_and_evaluations_are_the_same_with_and_without(tmp_path: Path) -> None:
    options = (
        *("--stop", "env_steps=1000", "--storage", "runs"),
        *("--set", "training.train_batch_size_per_learner=250", "--set", "training.num_epochs=1"),
        *("--set", "evaluation.every_env_steps=500", "--set", "evaluation.episodes=3"),
    )
    for name, more in (
        ("without", ()),
        ("with", ("--set", "evaluation.video={every_env_steps: 250}")),
    ):
        rlssl("train", "ppo", "CartPole-v1", "--name", name, *options, *more, cwd=tmp_path)
    plain, filmed = (only_trial(tmp_path / "runs" / name) for name in ("without", "with"))
    assert episodes(plain) == episodes(filmed) != []
    assert evaluations(plain) == evaluations(filmed)
    assert len(evaluations(plain)) == 2
    results = [json.loads(line) for line in (filmed / "result.json").open()]
    videos = [row["video"] for row in results if "video" in row]
    files = sorted(path.relative_to(filmed).as_posix() for path in filmed.glob("videos/*"))
    assert [video["path"] for video in videos] == files and len(files) == 4
    assert not (plain / "videos").exists()
    assert "video" not in (plain / "result.json").read_text()


def episodes(trial: Path) -> list[list[str]]:
    with (trial / "episodes.csv").open() as file:
        return list(csv.reader(file))[1:]


def evaluations(trial: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (trial / "result.json").open()]
    found = [row["evaluation"] for row in rows if "evaluation" in row]
    return {one["env_steps"]: one["episode_return_mean"] for one in found}
