"""The operations that names and locks of runs need, on a real folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlssl.experiment.storage import LocalStorage, claim_name

CLAIM = """
import sys
from pathlib import Path
from rlssl.experiment.storage import LocalStorage, claim_name
sys.stdin.readline()
print(claim_name(LocalStorage(Path(sys.argv[1])), "ppo"))
"""


def test_runs_that_start_at_the_same_time_get_different_names(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    names = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert names == ["ppo", "ppo-2", "ppo-3", "ppo-4", "ppo-5", "ppo-6"]


def test_a_name_with_folders_is_claimed_below_them(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert [claim_name(storage, "lab/ppo") for _ in range(2)] == ["lab/ppo", "lab/ppo-2"]
    assert (tmp_path / "lab" / "ppo-2").is_dir()


def test_a_file_of_the_same_name_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ppo").write_text("notes")
    assert claim_name(LocalStorage(tmp_path), "ppo") == "ppo-2"
    assert (tmp_path / "ppo").read_text() == "notes"


def test_a_missing_file_has_no_content_and_no_age(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert storage.read("run/lock.json") is None
    assert storage.age_s("lock.json") == float("inf")
    storage.delete("lock.json")


def test_age_counts_from_the_last_touch_and_leaves_no_file_behind(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("lock.json", b"{}")
    os.utime(tmp_path / "lock.json", (0, (tmp_path / "lock.json").stat().st_mtime - 100))
    assert storage.age_s("lock.json") == pytest.approx(100, abs=5)
    storage.touch("lock.json")
    assert storage.age_s("lock.json") == pytest.approx(0, abs=5)
    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]


def test_replace_leaves_the_new_content_alone(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.replace("run.json", b"old")
    storage.replace("run.json", b"new")
    assert storage.read("run.json") == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
