"""A run without Tune's state: its points, its trials and their folders are found again."""

import json
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.search import Searcher

from rlssl.analysis.objective import Objective
from rlssl.experiment.spec import load_spec
from rlssl.experiment.spec.search_space import draw_points
from rlssl.experiment.tuning.recovery import damaged_files, rebuilt, set_aside
from rlssl.experiment.tuning.searchers import (
    ListedPoints,
    PointSearcher,
    trial_key,
    write_points,
)

SPEC = {
    "algorithm": "ppo",
    "env": "CartPole-v1",
    "stop": {"env_steps": 1000},
    "seeds": [3, 4],
    "search": {"training.lr": {"grid": [0.1, 0.2]}, "training.entropy_coeff": {"uniform": [0, 1]}},
    "searcher": {"random": {"num_samples": 1, "seed": 5}},
}


def write_trial(run: Path, name: str, point: Any, seed: int, last: str | None = None) -> None:
    folder = run / name
    folder.mkdir()
    (folder / "trial.json").write_text(json.dumps({"point": point, "seed": seed}))
    if last is not None:
        (folder / "result.json").write_text('{"env_steps": 500, "done": false}\n' + last)


def state_files(run: Path) -> None:
    """Files that Tune could read, as far as their outer form goes."""
    for name in ("tuner.pkl", "searcher-state-1.pkl", "search_gen_state-1.json"):
        (run / name).write_bytes(cloudpickle.dumps({"state": 1}))
    state: dict[str, Any] = {"runner_data": {}, "trial_data": [], "stats": {}}
    (run / "experiment_state-1.json").write_text(json.dumps(state))


def test_trials_continue_in_their_folders_and_ended_ones_stay_ended(tmp_path: Path) -> None:
    spec = load_spec(SPEC)
    one, two = draw_points(spec)
    write_points(tmp_path, [one, two], search_seed=5)
    write_trial(tmp_path, "a", one, 3, '{"env_steps": 1000, "done": true}\n')
    write_trial(tmp_path, "b", one, 4, '{"env_steps": 900, "done": false}\n{"env_st')
    write_trial(tmp_path, "c", two, 3)
    found = rebuilt(spec, tmp_path)
    assert found.points == [one, two]
    assert found.ended == {trial_key(one, 3): None}  # it has no score
    expected = {trial_key(one, 3): "a", trial_key(one, 4): "b", trial_key(two, 3): "c"}
    assert found.folders == expected
    # Tune gets the trials that have not ended, each once.
    searcher = PointSearcher(
        ListedPoints(found.points), [3, 4], objective=Objective(), ended=found.ended
    )
    given = [searcher.suggest(f"t{number}") for number in range(4)]
    assert given == [{**one, "seed": 4}, {**two, "seed": 3}, {**two, "seed": 4}, Searcher.FINISHED]


@pytest.mark.parametrize("content", [None, b"", b'{"search_seed": 5, "poi', b"\xff\xfe\x00"])
def test_points_are_drawn_again_if_their_file_is_lost(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_spec(SPEC)
    if content is not None:
        (tmp_path / "points.json").write_bytes(content)
    write_trial(tmp_path, "a", draw_points(spec)[1], 4)
    assert rebuilt(spec, tmp_path).points == draw_points(spec)
    assert ("points.json is damaged" in capsys.readouterr().err) == (content is not None)


def test_run_of_an_earlier_version_has_only_the_trials_with_folders(tmp_path: Path) -> None:
    # There, every seed had draws of its own.
    spec = load_spec(SPEC)
    one = {"training.lr": 0.1, "training.entropy_coeff": 0.25}
    two = {"training.lr": 0.1, "training.entropy_coeff": 0.75}
    write_trial(tmp_path, "a", one, 3)
    write_trial(tmp_path, "b", two, 4)
    found = rebuilt(spec, tmp_path)
    searcher = PointSearcher(
        ListedPoints(found.points), [3, 4], objective=Objective(), ended=found.ended
    )
    given = [searcher.suggest(f"t{number}") for number in range(3)]
    assert given == [{**one, "seed": 3}, {**two, "seed": 4}, Searcher.FINISHED]


def test_damaged_trial_description_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(tmp_path, "a", {}, 3)
    (tmp_path / "a" / "trial.json").write_text('{"point"')
    assert rebuilt(load_spec({**SPEC, "search": {}, "searcher": None}), tmp_path).folders == {}
    assert f"{tmp_path / 'a' / 'trial.json'} is damaged" in capsys.readouterr().err


def test_whole_state_is_not_damaged(tmp_path: Path) -> None:
    write_points(tmp_path, [{}], search_seed=0)
    state_files(tmp_path)
    assert damaged_files(tmp_path) == []


@pytest.mark.parametrize("name", ["tuner.pkl", "experiment_state-1.json", "searcher-state-1.pkl"])
@pytest.mark.parametrize("how", ["gone", "empty", "truncated", "noise"])
def test_damage_is_found_and_set_aside(tmp_path: Path, name: str, how: str) -> None:
    write_points(tmp_path, [{}], search_seed=0)
    state_files(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[:-3], "noise": b"\xff\x00"}.get(how, b""))
    if how == "gone":
        path.unlink()
    (damaged,) = damaged_files(tmp_path)
    assert damaged == (name.replace("-1.", "-*.") if how == "gone" else name)
    set_aside(tmp_path, [damaged])
    left = {each.name for each in tmp_path.iterdir()}
    assert not left & {"tuner.pkl", "experiment_state-1.json", "searcher-state-1.pkl"}
    assert (f"{name}.damaged" in left) == (how != "gone")
