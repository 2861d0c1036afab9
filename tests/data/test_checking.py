"""Figures of a data set, and what is wrong in it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces

from rlssl.data import DatasetWriter, Description, Episode, EpisodeDataset
from rlssl.data.checking import problems_of, summary_of
from rlssl.data.description import DATASET_FILE, Manifest
from rlssl.system.files import checksum

VECTOR, ACTIONS = spaces.Box(-1, 1, (3,)), spaces.Box(-2, 2, (1,))


def steps(rewards: list[float], action: float = 0.0, *, terminated: bool = False) -> Episode:
    length = len(rewards)
    return Episode(
        np.zeros((length + 1, 3), np.float32),
        np.full((length, 1), action, np.float32),
        np.array(rewards),
        terminated=terminated,
        truncated=not terminated,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three shards; in the second one, an action is outside the space."""
    description = Description(VECTOR, ACTIONS, env={"id": "Pendulum-v1", "g": 9.8}, seed=3)
    with DatasetWriter(tmp_path / "data", description, rows_per_shard=6) as writer:
        for episode in (
            steps([1, 2]),
            steps([4], terminated=True),
            steps([8, 8, 8], 2.5),
            steps([0, 0, 0, 1]),
        ):
            writer.add(episode)
    return tmp_path / "data"


def test_figures_are_those_of_the_episodes(path: Path) -> None:
    figures = summary_of(EpisodeDataset(path))
    # Returns 3, 4, 24 and 1; lengths 2, 1, 3 and 4.
    assert figures["returns"] == {"min": 1.0, "mean": 8.0, "max": 24.0}
    assert figures["lengths"] == {"min": 1, "mean": 2.5, "max": 4}
    assert (figures["terminated"], figures["truncated"]) == (1, 3)
    assert (figures["shards"], figures["episodes"], figures["steps"]) == (3, 4, 10)
    assert figures["env"] == {"id": "Pendulum-v1", "g": 9.8}
    assert figures["bytes"] == sum(file.stat().st_size for file in path.glob("*.parquet"))


def test_an_action_outside_the_space_is_found(path: Path) -> None:
    (problem,) = problems_of(EpisodeDataset(path))
    assert (problem.file, problem.first_row, problem.last_row) == ("episodes-00001.parquet", 5, 8)
    assert problem.message.startswith("episode 2 (rows 5 to 8 in episodes-00001.parquet): action")


def test_missing_and_damaged_shards_are_found(path: Path) -> None:
    (path / "episodes-00000.parquet").write_bytes(b"nothing")
    (path / "episodes-00002.parquet").unlink()
    found = list(problems_of(EpisodeDataset(path)))
    assert [problem.first_row for problem in found] == [0, 5, 9]
    assert [problem.last_row for problem in found] == [4, 8, 13]
    assert "rows 0 to 4, episodes 0 to 1) is damaged" in found[0].message
    assert "rows 9 to 13, episodes 3 to 3) is missing" in found[2].message


def rewritten(path: Path, number: int, table: pa.Table) -> None:
    """Writes a shard as another tool would, with its true checksum."""
    file = path / f"episodes-{number:05d}.parquet"
    pq.write_table(table, file)
    content = (path / DATASET_FILE).read_text()
    manifest = Manifest.decode(content.encode(), "data")
    (path / DATASET_FILE).write_text(
        content.replace(manifest.shards[number].sha256, checksum(file))
    )


def test_a_reward_that_is_not_finite_is_found(path: Path) -> None:
    table = pq.read_table(path / "episodes-00002.parquet")
    rewards = pa.array([0.0, np.nan, 0.0, 1.0, None], pa.float32())
    column = table.column_names.index("reward")
    rewritten(path, 2, table.set_column(column, "reward", rewards))
    problems = list(problems_of(EpisodeDataset(path)))
    assert problems[1].message == (
        "episode 3 (rows 9 to 13 in episodes-00002.parquet): the reward is nan at step 1."
    )


@pytest.mark.parametrize(
    ("change", "defect"),
    [
        (lambda table: table.slice(0, 4), "cannot be read: column action has 4 values"),
        (lambda table: table.drop_columns(["action"]), "cannot be read: .*action"),
        (
            lambda table: table.set_column(2, "obs", pa.array([1.0] * 5, pa.float32())),
            "cannot be read: column obs has 5 values of float; wanted: 5 of list",
        ),
        (
            lambda table: table.set_column(1, "t", pa.array([0, 1, 3, 4, 5], pa.int32())),
            "column t does not count",
        ),
    ],
)
def test_shards_of_another_content_are_found(
    path: Path, change: Callable[[pa.Table], pa.Table], defect: str
) -> None:
    table = pq.read_table(path / "episodes-00002.parquet")
    rewritten(path, 2, change(table))
    problems = list(problems_of(EpisodeDataset(path)))
    assert len(problems) == 2
    assert problems[1].first_row == 9 and re.search(defect, problems[1].message)


def test_an_empty_data_set_has_no_problem(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, Description(VECTOR)):
        pass
    dataset = EpisodeDataset(tmp_path)
    assert list(problems_of(dataset)) == []
    assert (summary_of(dataset)["episodes"], summary_of(dataset)["returns"]) == (0, {})
