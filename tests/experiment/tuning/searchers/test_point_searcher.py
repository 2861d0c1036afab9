"""Points first, then each point with each of the same seeds."""

import json
import pickle
from pathlib import Path

import pytest
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

from rlssl.analysis.objective import Objective
from rlssl.analysis.points import read_points
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.tuning.search import draw_and_list_points, saved_points
from rlssl.experiment.tuning.searchers import (
    ListedPoints,
    PointSearcher,
    label_of,
    trial_key,
    write_points,
)

POINTS = [{"training.lr": 0.1}, {"training.lr": 0.2}]


class Remembering(ListedPoints):
    def __init__(self) -> None:
        super().__init__(POINTS)
        self.results: list[tuple[object, float | None]] = []

    def told(self, point: object, score: float | None) -> None:
        self.results.append((point, score))


def searcher(source: ListedPoints | None = None) -> PointSearcher:
    return PointSearcher(source or ListedPoints(POINTS), [4, 5], objective=Objective("score"))


def test_every_point_gets_every_seed_in_order() -> None:
    search = searcher()
    suggested = [search.suggest(str(number)) for number in range(5)]
    assert suggested == [
        {"training.lr": 0.1, "seed": 4},
        {"training.lr": 0.1, "seed": 5},
        {"training.lr": 0.2, "seed": 4},
        {"training.lr": 0.2, "seed": 5},
        Searcher.FINISHED,
    ]


def test_the_source_is_told_the_mean_once_all_seeds_ended() -> None:
    source = Remembering()
    search = searcher(source)
    for number in range(4):
        search.suggest(str(number))
    search.on_trial_complete("2", {"score": 3.0})
    search.on_trial_complete("0", {"score": 1.0})
    assert source.results == []
    search.on_trial_complete("1", {"score": 2.0})
    assert source.results == [(POINTS[0], 1.5)]
    search.on_trial_complete("3", error=True)
    assert source.results[1:] == [(POINTS[1], None)]  # a failed seed: the point has no score


def test_scores_of_trials_that_ended_before_count(tmp_path: Path) -> None:
    source = Remembering()
    keys = [trial_key(POINTS[0], 4), trial_key(POINTS[0], 5), trial_key(POINTS[1], 4)]
    ended = dict(zip(keys, [1.0, 2.0, 3.0], strict=True))
    search = PointSearcher(source, [4, 5], objective=Objective("score"), ended=ended)
    assert search.suggest("0") == {"training.lr": 0.2, "seed": 5}
    assert source.results == [(POINTS[0], 1.5)]
    search.on_trial_complete("0", {"score": 5.0})
    assert source.results[1:] == [(POINTS[1], 4.0)]


def test_number_of_points_at_a_time_is_limited() -> None:
    search = PointSearcher(ListedPoints(POINTS), [4], objective=Objective("score"), max_points=1)
    assert search.suggest("0") == {"training.lr": 0.1, "seed": 4}
    assert search.suggest("1") is None
    search.on_trial_complete("0", {"score": 1.0})
    assert search.suggest("1") == {"training.lr": 0.2, "seed": 4}


def test_state_survives_in_the_file_that_tune_saves(tmp_path: Path) -> None:
    search = searcher(Remembering())
    for number in range(3):
        search.suggest(str(number))
    search.on_trial_complete("0", {"score": 1.0})
    search.save(str(tmp_path / "state"))
    restored = pickle.loads(pickle.dumps(searcher(Remembering())))
    restored.restore(str(tmp_path / "state"))
    assert restored.suggest("3") == {"training.lr": 0.2, "seed": 5}
    assert restored.suggest("4") == Searcher.FINISHED
    restored.on_trial_complete("1", {"score": 2.0})
    assert restored.source.results == [(POINTS[0], 1.5)]


def test_tune_restores_the_searcher_below_its_own_wrappers(tmp_path: Path) -> None:
    search = SearchGenerator(ConcurrencyLimiter(searcher(), max_concurrent=200))
    assert [search.searcher.suggest(str(number)) for number in range(3)][-1] == {
        "training.lr": 0.2,
        "seed": 4,
    }
    search.on_trial_complete("0", {"score": 1.0})
    search.save_to_dir(str(tmp_path), session_str="now")
    restored = SearchGenerator(ConcurrencyLimiter(searcher(), max_concurrent=200))
    assert restored.has_checkpoint(str(tmp_path))
    restored.restore_from_dir(str(tmp_path))
    assert restored.searcher.suggest("3") == {"training.lr": 0.2, "seed": 5}
    restored.on_trial_complete("1", {"score": 2.0})
    assert restored.searcher.suggest("4") == Searcher.FINISHED


def test_points_are_listed_with_values_and_labels(tmp_path: Path) -> None:
    write_points(tmp_path, POINTS, search_seed=3)
    assert json.loads((tmp_path / "points.json").read_text()) == {
        "search_seed": 3,
        "points": [
            {"index": 0, "values": {"training.lr": 0.1}, "label": "lr=0.1"},
            {"index": 1, "values": {"training.lr": 0.2}, "label": "lr=0.2"},
        ],
    }
    assert [point.label for point in read_points(tmp_path)] == ["lr=0.1", "lr=0.2"]
    assert label_of(tmp_path, POINTS[1]) == "lr=0.2"
    assert label_of(tmp_path / "earlier", POINTS[1]) == "lr=0.2"  # a run without points.json


def test_damaged_list_of_points_is_named(tmp_path: Path) -> None:
    (tmp_path / "points.json").write_bytes(b'{"points": [\xff')
    with pytest.raises(ValueError, match=r"points\.json is damaged"):
        read_points(tmp_path)


def test_lost_or_damaged_points_are_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_spec(
        {
            "algorithm": "ppo",
            "env": "CartPole-v1",
            "stop": {"env_steps": 1000},
            "search": {"training.lr": {"loguniform": [1e-4, 1e-2]}},
            "searcher": {"random": {"num_samples": 3, "seed": 7}},
        }
    )
    points = draw_and_list_points(spec, tmp_path)
    text = (tmp_path / "points.json").read_text()
    (tmp_path / "points.json").write_text(text[:50])
    assert saved_points(spec, tmp_path) == points
    assert "points.json is damaged" in capsys.readouterr().err
    (tmp_path / "points.json").unlink()
    assert saved_points(spec, tmp_path) == points
    assert (tmp_path / "points.json").read_text() == text
