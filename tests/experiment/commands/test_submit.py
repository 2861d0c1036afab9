"""`rlssl submit`: the line that it prints, and what it refuses."""

import json
from pathlib import Path

import click
import pytest
import yaml

from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.experiment.commands.submit import job_line


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a spec."""
    monkeypatch.chdir(tmp_path)
    spec = {"algorithm": "ppo", "env": "CartPole-v1", "storage": "/shared/results"}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path


def line(*words: str) -> list[str]:
    return job_line(words, main.commands, address="http://head:8265")


def test_line_has_the_command_the_folder_and_the_environment(folder: Path) -> None:
    words = line("sweep", str(folder / "my.yaml"), "--set", "seeds=[1, 2]")
    assert words[:5] == ["ray", "job", "submit", "--address", "http://head:8265"]
    assert words[words.index("--working-dir") + 1] == str(folder)
    # The path is relative to the folder, because the job has a copy of the folder elsewhere.
    expected = ["rlssl", "sweep", "my.yaml", "--set", "seeds=[1, 2]", "--address", "auto"]
    assert words[words.index("--") + 1 :] == expected
    environment = json.loads(words[words.index("--runtime-env-json") + 1])
    assert {".git", ".venv", "/results"} <= set(environment["excludes"])
    assert environment["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "60"}  # 20 to save, and 40


def test_ray_waits_for_the_last_checkpoints_when_a_job_is_stopped() -> None:
    words = line("sweep", "my.yaml", "--set", "checkpoint.interrupt_s=200")
    environment = json.loads(words[words.index("--runtime-env-json") + 1])
    assert environment["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "240"}


@pytest.mark.parametrize(
    "words",
    [
        ["train", "ppo", "CartPole-v1"],
        ["train", "ppo", "CartPole-v1", "--storage", "results"],
        ["sweep", "my.yaml", "--set", "storage=results"],
        ["resume", "my-run"],
    ],
)
def test_storage_that_the_job_would_lose_is_refused(words: list[str]) -> None:
    with pytest.raises(SpecError, match=r"'.*results' is in the temporary folder of the job"):
        line(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "ppo", "CartPole-v1", "--storage", "/shared"],
        ["sweep", "my.yaml", "--set", "storage=s3://bucket/results"],
        ["resume", "/shared/my-run"],
        ["resume", "my-run", "--storage", "s3://bucket/results"],
        ["confirm", "s3://bucket/results/my-run"],
    ],
)
def test_storage_that_every_node_sees_is_accepted(words: list[str]) -> None:
    assert line(*words)[-2:] == ["--address", "auto"]


def test_files_outside_of_the_folder_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    with pytest.raises(SpecError, match=r"'../my.yaml' is not in the current folder"):
        line("sweep", "../my.yaml")
    monkeypatch.chdir(folder)
    with pytest.raises(SpecError, match=r"'../code' is not in the current folder"):
        line("sweep", "my.yaml", "--set", "plugins_path=[../code]")


@pytest.mark.parametrize("name", ["runs", "submit", "swep"])
def test_other_commands_are_refused_with_the_names_of_those_that_fit(name: str) -> None:
    with pytest.raises(SpecError, match=f"resume, confirm, pretrain; got '{name}'"):
        line(name)


def test_wrong_options_of_the_command_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(click.UsageError, match="--halt"):
        line("train", "ppo", "CartPole-v1", "--halt", "env_steps=1")
    with pytest.raises(SpecError, match="leave out the --address of the job"):
        line("train", "ppo", "CartPole-v1", "--storage", "/shared", "--address", "auto")
