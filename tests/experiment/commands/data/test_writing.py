"""Two writers of one data set: the second is refused; a killed one locks nothing."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import minari
import numpy as np
import pytest
from click.testing import CliRunner, Result
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from rlssl.cli import main
from rlssl.data import EpisodeDataset

# Minari asks for an author, an email, an environment, one warning each.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

WRITER = """
import sys
from rlssl.experiment.commands.data.writing import only_writer

with only_writer(sys.argv[1]):
    print("writes", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def minari_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set of one episode in Minari's own folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return of_minari("tests/one-v0", [False, True])


def of_minari(name: str, *terminations: list[bool]) -> str:
    """Writes a data set of Minari with these episodes of two steps."""
    buffers = [
        EpisodeBuffer(
            observations=np.zeros((3, 3), np.float32),
            actions=np.array([1, 1]),
            rewards=np.zeros(2),
            terminations=np.array(ends),
            truncations=np.zeros(2, bool),
        )
        for ends in terminations
    ]
    described = {"observation_space": spaces.Box(-1, 1, (3,)), "action_space": spaces.Discrete(2)}
    minari.create_dataset_from_buffers(name, buffers, **described)
    return f"minari:{name}"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes the data set ``data`` until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "writes\n"
    yield process
    process.kill()
    process.wait()


def imported(source: str, to: Path) -> Result:
    return CliRunner().invoke(main, ["data", "import", source, str(to)])


def test_a_killed_writer_locks_nothing(
    minari_id: str, writer: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    refused = imported(minari_id, tmp_path / "data")
    assert refused.exit_code == 3
    assert "data is being written: " in refused.stderr
    assert f"(process {writer.pid}); last sign of life" in refused.stderr
    assert not (tmp_path / "data" / "dataset.json").exists()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    again = imported(minari_id, tmp_path / "data")
    assert again.exit_code == 0, again.stderr
    assert len(EpisodeDataset(tmp_path / "data")) == 1
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["dataset.json", "episodes-00000.parquet"]


@pytest.mark.usefixtures("minari_id")
def test_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    odd = of_minari("tests/odd-v0", [False, True], [True, False])
    result = imported(odd, tmp_path / "data")
    assert result.exit_code == 2
    assert "episode 1 goes on after its termination at step 0" in result.stderr
    assert result.stderr.endswith(f"Nothing is left at {tmp_path / 'data'}.\n")
    assert not (tmp_path / "data").exists()


def test_an_error_of_the_disk_says_that_nothing_is_left(minari_id: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    # A folder stands where the file should be, as a disk that is full would refuse it.
    (tmp_path / "data" / "episodes-00000.parquet").mkdir()
    result = imported(minari_id, tmp_path / "data")
    assert result.exit_code == 3
    assert "Nothing of the copy is left: mend the cause" in result.stderr
    assert not (tmp_path / "data" / "dataset.json").exists()
