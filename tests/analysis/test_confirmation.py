"""The best points of a search, and their scores with new seeds."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlssl.analysis.confirmation import (
    best_points,
    confirmed_rows,
    read_choice,
    write_choice,
    write_confirmation_csv,
)
from rlssl.analysis.objective import Objective
from rlssl.analysis.results import read_sweep

POINTS = [{"training.lr": rate} for rate in (0.1, 0.2, 0.3, 0.4)]
#: Scores of the seeds 0 and 1 of each point; None: the trial has not finished.
SCORES = [(1.0, 3.0), (9.0, None), (6.0, 8.0), (5.0, 5.0)]


def rows(score: float, *, done: bool = True) -> list[dict[str, Any]]:
    return [{"env_steps": 100, "episode_return_mean": score, "done": done}]


@pytest.fixture
def search(write_trial: Callable[..., Path], write_run: Callable[..., Path]) -> Path:
    run = write_run(POINTS, seeds=(0, 1))
    for index, scores in enumerate(SCORES):
        for seed, score in enumerate(scores):
            results = rows(score or 9.0, done=score is not None)
            write_trial(
                f"{index}-{seed}", point=POINTS[index], seed=seed, returns=[0.0], results=results
            )
    return run


def test_best_points_have_all_their_seeds(search: Path) -> None:
    chosen = best_points(read_sweep(search), Objective(), 2)
    # The means are 2, unknown, 7 and 5.
    assert [one.values for one in chosen] == [POINTS[2], POINTS[3]]
    assert [one.scores for one in chosen] == [[6.0, 8.0], [5.0, 5.0]]
    lowest = best_points(read_sweep(search), Objective(mode="min"), 9)
    assert [one.values for one in lowest] == [POINTS[0], POINTS[3], POINTS[2]]


@pytest.mark.parametrize(("mode", "optimism"), [("max", 2.0), ("min", -2.0)])
def test_optimism_is_the_difference(
    search: Path, write_trial: Callable[..., Path], tmp_path: Path, mode: str, optimism: float
) -> None:
    chosen = best_points(read_sweep(search), Objective(), 2)
    confirmation = tmp_path / "again"
    confirmation.mkdir()
    for seed, score in ((100, 4.0), (101, 6.0)):
        folder = write_trial(
            f"c-{seed}", point=POINTS[2], seed=seed, returns=[0.0], results=rows(score)
        )
        with (folder / "spec.yaml").open("a") as file:
            file.write(f"objective: {{mode: {mode}}}\n")
        folder.rename(confirmation / folder.name)
    write_choice(confirmation, search, chosen)
    read = read_choice(confirmation)
    assert read is not None and read[0] == search
    first, second = confirmed_rows(read[1], read_sweep(confirmation))
    assert (first.search.mean, first.confirmed.mean) == (7.0, 5.0)
    assert first.optimism == optimism
    assert math.isnan(second.optimism)  # its trials have no result yet
    lines = write_confirmation_csv([first, second], tmp_path / "c.csv").read_text().splitlines()
    assert lines[1].startswith("lr=0.3,7.0,,,2,5.0,,,2,")
    assert lines[2] == "lr=0.4,5.0,,,2,,,,0,"


@pytest.mark.parametrize(("metric", "score"), [("area", 5.0), ("episode_return_mean", 8.0)])
def test_score_is_the_trials_own_where_it_followed_the_same_objective(
    write_trial: Callable[..., Path], write_run: Callable[..., Path], metric: str, score: float
) -> None:
    run = write_run(POINTS[:1], seeds=(0,))
    # Only some iterations are reported; the area of these two results alone would be 4.
    results = [
        {"env_steps": 100, "episode_return_mean": 0.0, "objective": 0.0, "done": False},
        {"env_steps": 200, "episode_return_mean": 8.0, "objective": 5.0, "done": True},
    ]
    folder = write_trial("0-0", point=POINTS[0], seed=0, returns=[0.0], results=results)
    with (folder / "spec.yaml").open("a") as file:
        file.write("objective: {metric: area}\n")
    (chosen,) = best_points(read_sweep(run), Objective(metric), 1)
    assert chosen.scores == [score]


def test_other_runs_confirm_nothing_and_damage_is_named(tmp_path: Path) -> None:
    assert read_choice(tmp_path) is None
    (tmp_path / "confirm.json").write_text('{"run": "x"')
    with pytest.raises(ValueError, match=r"confirm\.json is damaged"):
        read_choice(tmp_path)
