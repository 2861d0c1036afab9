"""Sections for searches, populations, confirmations and faults: there where a run has them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlssl.analysis.confirmation import best_points, write_choice
from rlssl.analysis.faults import KINDS
from rlssl.analysis.objective import Objective
from rlssl.analysis.report import read_report
from rlssl.analysis.report.parts import Section
from rlssl.analysis.report.sections import sections_of
from rlssl.analysis.results import read_run
from tests.analysis.report.runs import large_search, one_run, write_run_files, write_trial


def section(name: str, *folders: Path) -> Section:
    return next(one for one in sections_of(read_report(folders)) if one.id == name)


def test_search_shows_points_and_what_matters(tmp_path: Path) -> None:
    found = section("search-0", large_search(tmp_path / "run", 20, 1))
    importance, first, _ = found.charts
    shares = {row["name"]: row["share"] for row in importance.spec["data"]["values"]}
    # The score depends on the learning rate alone.
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["training.lr"] > 0.6
    assert first.spec["encoding"]["x"]["title"] == "training.lr"
    assert first.spec["encoding"]["x"]["scale"]["type"] == "log"
    assert len(first.spec["data"]["values"]) == 20


def test_few_points_have_no_importance(tmp_path: Path) -> None:
    found = section("search-0", large_search(tmp_path / "run", 5, 1))
    assert "Importances need 16 points with a score." in found.text
    assert len(found.charts) == 2


def test_importance_imports_neither_torch_nor_ray(tmp_path: Path) -> None:
    run = large_search(tmp_path / "run", 16, 1)
    code = (
        "import sys; from rlssl.analysis.report import read_report, write_report; "
        f"write_report(read_report([{str(run)!r}]), {str(tmp_path / 'page.html')!r}); "
        "print(sorted({'torch', 'ray', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['optuna']"


def test_population_shows_lineage_and_values(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    points = [{"training.lr": 0.001}, {"training.lr": 0.1}]
    write_run_files(folder, points, ["lr=0.001", "lr=0.1"], 1)
    for index, point in enumerate(points):
        path = folder / f"member-{index}"
        write_trial(path, point=point, label=f"lr={point['training.lr']}", seed=0, score=5.0)
    exploit: dict[str, Any] = {
        "compared_at": 4000,
        "env_steps": 5000,
        "member": 1,
        "source": 0,
        "score": 1.0,
    }
    exploit |= {"source_score": 4.0, "old": points[1], "copied": points[0]}
    exploit |= {"new": {"training.lr": 0.0012}, "checkpoint": "member-0/checkpoint_000000"}
    (folder / "lineage.jsonl").write_text(json.dumps(exploit) + "\n")
    found = section("population-0", folder)
    (row,) = found.tables[0].rows
    assert [cell.text for cell in row.cells] == ["5,000", "1", "0", "1.00", "4.00", "lr=0.0012"]
    values = found.charts[0].spec["data"]["values"]
    of_member = [(each["env_steps"], each["value"]) for each in values if each["member"][-1] == "1"]
    assert of_member == [(0, 0.1), (5000, 0.0012), (10_000, 0.0012)]


def test_confirmation_stands_beside_its_search(tmp_path: Path) -> None:
    search = one_run(tmp_path / "search", {"none": [1.0, 2, 3], "icm": [4.0, 5, 6]})
    confirm = one_run(tmp_path / "confirm", {"icm": [3.0, 4, 5]})
    (confirm / "points.json").unlink()
    chosen = best_points(read_run(search).trials, Objective(), 1)
    point = {"variant": chosen[0].values["variant"]}
    for trial in confirm.glob("trial-*"):
        content = json.loads((trial / "trial.json").read_text())
        (trial / "trial.json").write_text(json.dumps({**content, "point": point}))
    write_choice(confirm, search, chosen)
    (row,) = section("confirmation-0", confirm).tables[0].rows
    assert row.cells[0].text == "icm"
    assert row.cells[3].text == "1.00"  # 5 in the search, 4 with new seeds


def test_faults_are_named_with_their_run(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", {"none": [1.0, 2, 3]})
    note = {"time": 0.0, "kind": "retry", "words": "its process died"}
    (run / "faults.jsonl").write_text(json.dumps(note) + "\n")
    other = one_run(tmp_path / "other", {"none": [1.0, 2, 3]})
    assert read_report([run]).faults == [f"{KINDS['retry']}: 1: its process died"]
    assert read_report([run, other]).faults == [f"run: {KINDS['retry']}: 1: its process died"]


def test_damaged_files_are_problems_of_the_page(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", {"none": [1.0, 2, 3]})
    (run / "lineage.jsonl").write_text("no JSON\n")
    (run / "confirm.json").write_text("{}")
    problems = read_report([run]).problems
    assert any("lineage.jsonl, line 1 is damaged" in problem for problem in problems)
    assert any("confirm.json is damaged" in problem for problem in problems)
    assert not [one for one in sections_of(read_report([run])) if one.id.startswith("population")]
