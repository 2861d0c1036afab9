"""The study's cells: names, commands, and the tables of its page."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.study import cells as study
from benchmarks.study import page
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.search_space import draw_points

FOLDER = study.ROOT / "tune_configs" / "study"
TUNING = sorted(FOLDER.glob("*_tuning.yaml"))


def test_every_sweep_of_the_study_is_a_stratum_or_tunes_one() -> None:
    found = {file.stem for file in FOLDER.glob("*.yaml")} - {file.stem for file in TUNING}
    assert found == set(study.STRATA)


@pytest.mark.parametrize("file", TUNING, ids=lambda file: file.stem)
def test_settings_are_tuned_on_other_seeds_of_the_same_task(file: Path) -> None:
    tuned, stratum = load_spec(file), load_spec(FOLDER / file.name.replace("_tuning", ""))
    assert not set(tuned.seeds) & set(stratum.seeds)
    for name in ("env", "training", "env_runners", "stop", "evaluation"):
        assert getattr(tuned, name) == getattr(stratum, name), name
    points = draw_points(tuned)
    chosen = [point for point in draw_points(stratum) if point in points]
    assert len(chosen) == len({next(iter(point["auxiliary"])) for point in points})


@pytest.mark.parametrize("stratum", study.STRATA)
def test_the_command_of_a_cell_has_the_point_of_the_cell(stratum: str) -> None:
    found = study.cells(stratum)
    assert len({cell.row for cell in found}) == len(found) > 1
    assert found[0].row == "none"
    for cell in found:
        _, file, *settings = cell.words
        overrides = [word for word in settings if word != "--set"]
        spec = load_spec(study.ROOT / file, overrides)
        assert draw_points(spec) == [cell.values]
        assert spec.name == f"study-{stratum}-{cell.row}"
        assert spec.evaluation.every_env_steps == spec.stop["env_steps"] and len(spec.seeds) >= 5


@pytest.mark.parametrize(
    ("rate", "kept"), [(0.5, {"success": 0.5}), (float("nan"), {}), (None, {})]
)
def test_a_task_without_successes_has_no_success_in_its_result(
    rate: float | None, kept: dict[str, float]
) -> None:
    row = {"evaluation/episode_return_mean": 3.0, "evaluation/success_rate": rate}
    last = {**row, "env_steps": 9, "time_total_s": 1.0}
    trial: Any = SimpleNamespace(results=[last], is_complete=True, seed=0)
    found = study._of_trial(trial)
    assert found == found | {"seed": 0, "return": 3.0, **kept}
    assert found.keys() - {"success"} == found.keys() - kept.keys()


def test_the_page_shows_results_and_what_has_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result: dict[str, Any] = {
        "stratum": "sparse_reward",
        "row": "none",
        "seeds": [{"return": 0.5, "success": 1.0, "trial_seconds": 10.0}],
        "iqm": 0.5,
        "mean": 0.5,
        "interval": [0.25, 0.75],
    }
    folder = tmp_path / "sparse_reward"
    folder.mkdir()
    (folder / "none.json").write_text(json.dumps(result))
    copy = tmp_path / "page.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "PAGE", copy)
    for _ in range(2):
        page.write_tables()
        lines = copy.read_text(encoding="utf-8").splitlines()
        assert lines.count("| none | 0.5 | 0.5 [0.25, 0.75] | 1.00 | 1 | 10 |") == 1
        assert lines.count("| icm | not run | | | | |") == 1


def test_the_page_in_the_repository_has_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = page.PAGE.read_text(encoding="utf-8")
    copy = tmp_path / "page.md"
    copy.write_text(before, encoding="utf-8")
    monkeypatch.setattr(page, "PAGE", copy)
    page.write_tables()
    assert copy.read_text(encoding="utf-8") == before
