"""`rlssl init`: what it writes is complete, and runs; nothing is overwritten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from rlssl.cli import main
from rlssl.experiment.spec.yaml_reader import read_document

ROOT = Path(__file__).parents[3]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "my_plugin").mkdir()
    mine = tmp_path / "my_plugin" / "loss.py"
    mine.write_text("mine")
    result = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{mine} exists, and nothing is overwritten; give another folder" in result.stderr
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["my_plugin"]


def test_another_folder_is_suggested_as_a_shell_takes_it(tmp_path: Path) -> None:
    folder = tmp_path / "my <b> folder"
    for name in (folder, tmp_path / "my <b> folder_2"):
        name.mkdir()
        (name / "sweep.yaml").write_text("")
    result = CliRunner().invoke(main, ["init", str(folder)])
    assert result.exit_code == 2
    assert result.stderr.strip().endswith(f"rlssl init '{folder}_3'.")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `rlssl init` has filled."""
    folder = tmp_path_factory.mktemp("init")
    done = run(folder, "rlssl.cli", "init", "my one")
    assert done.returncode == 0, done.stderr
    assert "cd 'my one' && rlssl sweep sweep.yaml" in done.stdout
    return folder / "my one"


pytestmark = pytest.mark.timeout(300)


@pytest.mark.slow
@pytest.mark.ci
def test_its_sweep_runs(written: Path) -> None:
    short = ["--set", "seeds=[0]", "--set", "stop.env_steps=1000"]
    short += ["--set", "evaluation.every_env_steps=1000", "--set", "evaluation.episodes=2"]
    done = run(written, "rlssl.cli", "sweep", "sweep.yaml", *short)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = list((written / "results" / "my-sweep").glob("*/trial.json"))
    assert len(trials) == 2


@pytest.mark.slow
@pytest.mark.ci
def test_its_tests_pass(written: Path) -> None:
    done = run(written, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.ci
def test_its_spec_is_valid_by_its_schema(written: Path) -> None:
    schema = json.loads((written / "spec.schema.json").read_text(encoding="utf-8"))
    document = read_document(written / "sweep.yaml")
    jsonschema.Draft202012Validator(schema).validate(document)
    first = (written / "sweep.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=spec.schema.json"
    document["auxiliary"]["my_reward_prediction"]["hiden"] = 3
    assert not jsonschema.Draft202012Validator(schema).is_valid(document)


@pytest.mark.slow
@pytest.mark.ci
def test_its_code_is_formatted(written: Path) -> None:
    for words in (["format", "--check"], ["check"]):
        done = run(written, "ruff", *words, "--config", "line-length = 100", ".")
        assert done.returncode == 0, done.stdout + done.stderr
