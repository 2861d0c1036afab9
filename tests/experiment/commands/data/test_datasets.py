"""`rlssl data`: what is printed, and the exit codes."""

import json
from pathlib import Path

import minari
import numpy as np
import pytest
from click.testing import CliRunner, Result
from gymnasium import spaces

from rlssl.cli import main
from rlssl.data import DatasetWriter, Description, Episode, EpisodeDataset


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", *arguments])


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two episodes, in a shard each."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    description = Description(
        spaces.Box(-1, 1, (3,)), spaces.Discrete(2), env={"id": "CartPole-v1"}, policy="random"
    )
    with DatasetWriter(tmp_path / "data", description, rows_per_shard=1) as writer:
        for length in (1, 3):
            frames = np.zeros((length + 1, 3), np.float32)
            actions = np.zeros(length, np.int64)
            writer.add(Episode(frames, actions, np.ones(length), terminated=True))
    return str(tmp_path / "data")


def test_info_says_what_a_data_set_holds(path: str) -> None:
    result = run("info", path)
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["episodes"] == "2 in 2 files"
    assert lines["returns"] == "mean 2, from 1 to 3"
    assert lines["environment"] == '{"id": "CartPole-v1"}'
    assert (lines["policy"], lines["seed"]) == ("random", "unknown")


def test_info_in_json_has_the_figures_and_the_description(path: str) -> None:
    figures = json.loads(run("info", path, "--json").stdout)
    assert (figures["steps"], figures["rows"], figures["complete"]) == (4, 6, True)
    assert figures["action_space"] == {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}


def test_check_finds_nothing_in_a_whole_data_set(path: str) -> None:
    result = run("check", path)
    assert (result.exit_code, result.stdout) == (0, "2 episodes in 6 rows: no problem.\n")
    assert json.loads(run("check", path, "--json").stdout) == []


def test_check_names_the_rows_of_a_damaged_shard(path: str) -> None:
    (Path(path) / "episodes-00001.parquet").write_bytes(b"damaged")
    result = run("check", path)
    assert result.exit_code == 1
    assert "episodes-00001.parquet (rows 2 to 5, episodes 1 to 1) is damaged" in result.stdout
    (problem,) = json.loads(run("check", path, "--json").stdout)
    assert (problem["file"], problem["first_row"]) == ("episodes-00001.parquet", 2)


@pytest.mark.parametrize("command", ["info", "check"])
def test_a_folder_without_a_data_set_is_refused(tmp_path: Path, command: str) -> None:
    result = run(command, str(tmp_path))
    assert result.exit_code == 2
    assert "is no data set: it has no dataset.json" in result.stderr


def test_export_and_import_copy_the_episodes(path: str, tmp_path: Path) -> None:
    assert run("export", path, "--minari", "rlssl/demos-v0").exit_code == 0
    assert minari.load_dataset("rlssl/demos-v0").total_steps == 4
    result = run("import", "minari:rlssl/demos-v0", str(tmp_path / "back"))
    assert result.exit_code == 0 and "Wrote 2 episodes, 4 steps" in result.stdout
    assert len(EpisodeDataset(tmp_path / "back")) == 2
    again = run("import", "minari:rlssl/demos-v0", str(tmp_path / "back"))
    assert again.exit_code == 2 and "already has a data set" in again.stderr
