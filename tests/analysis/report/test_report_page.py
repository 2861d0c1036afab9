"""The page of a report has the numbers of the table, with their protocol, and escapes all text."""

import base64
from pathlib import Path

import pytest

from rlssl.analysis.report import read_report, write_report
from rlssl.analysis.results import read_run
from rlssl.analysis.table import sweep_table, write_table_csv
from tests.analysis.report.pages import Page
from tests.analysis.report.runs import Scores, one_run

TWO: Scores = {"none": [10.0, 12, 11, 9, 10.5], "icm": [20.0, 22, 21, 19, 25]}
EVIL = '</script><script>alert("x")</script>|`<b>'


def page_of(*folders: Path) -> Page:
    target = folders[0] / "report.html"
    write_report(read_report(folders), target)
    return Page(target.read_text())


def test_scores_are_those_of_the_table(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", TWO)
    rows = {row.variant: row for row in sweep_table(read_run(run).trials)}
    header, *lines = page_of(run).tables[0]
    assert header[:4] == ["variant", "seeds", "env steps", "final return"]
    assert [line[0] for line in lines] == ["icm", "none"]  # the best one first
    for line in lines:
        row = rows[line[0]]
        wanted = [str(row.num_seeds), f"{row.env_steps:,}", str(row.final_return)]
        assert line[1:4] == wanted


def test_the_objective_is_compared_if_the_spec_has_one(tmp_path: Path) -> None:
    spec = {"objective": {"metric": "learners/default_policy/vf_loss", "mode": "min"}}
    run = one_run(tmp_path / "run", TWO, spec=spec)
    rows = sweep_table(read_run(run).trials)
    header, *lines = page_of(run).tables[0]
    assert header[3] == "objective"
    assert {line[0]: line[3] for line in lines} == {row.variant: str(row.objective) for row in rows}
    assert (
        min(rows, key=lambda row: row.objective.mean if row.objective else 0).variant == lines[0][0]
    )


def test_the_csv_is_that_of_the_table(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", TWO)
    table = write_table_csv(sweep_table(read_run(run).trials), tmp_path / "table.csv")
    links = [known["href"] for tag, known in page_of(run).elements if "download" in known]
    found = base64.b64decode((links[0] or "").partition(",")[2]).decode()
    assert sorted(found.splitlines()) == sorted(table.read_text().splitlines())


def test_a_metric_names_every_way_in_which_it_was_measured(tmp_path: Path) -> None:
    key, runs = "evaluation/episode_return_mean", []
    for name, explore in (("a", False), ("b", True)):
        spec = {"evaluation": {"episodes": 10, "explore": explore}}
        runs.append(one_run(tmp_path / name, TWO, metrics=[key], spec=spec))
    (note,) = [one["note"] for one in page_of(*runs).data["metrics"] if one["key"] == key]
    assert note == (
        "last value (mean of 10 evaluation episodes), deterministic actions; or, in other runs: "
        "last value (mean of 10 evaluation episodes), sampled actions"
    )


def test_curves_end_at_the_final_return(tmp_path: Path) -> None:
    data = page_of(one_run(tmp_path / "run", TWO)).data
    index = next(one["index"] for one in data["groups"][0]["variants"] if one["label"] == "icm")
    mean, low, high = data["bands"]["return"][str(index)]
    assert mean[-1] == pytest.approx(21.4)  # (20 + 22 + 21 + 19 + 25) / 5
    assert low[-1] < 21.4 < high[-1]
    steps, times = (data["x"][str(index)][axis] for axis in ("steps", "time"))
    assert steps[-1] == 10_000
    assert times[-1] == pytest.approx(20.0)  # a result a second


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    page = page_of(one_run(tmp_path / "run", {EVIL: [1.0, 2, 3], "none": [1.0, 2, 2]}))
    assert page.tables[0][1][0] == EVIL
    assert page.data["groups"][0]["variants"][0]["label"] == EVIL
    text = (tmp_path / "run" / "report.html").read_text()
    assert EVIL not in text
    assert '<script>alert("x")' not in text
    assert sum(tag == "script" for tag, _ in page.elements) == 3


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    page = page_of(one_run(tmp_path / "run", TWO))
    links = [known[key] for _, known in page.elements for key in ("src", "href") if key in known]
    assert all(str(link).startswith(("#", "data:")) for link in links)
    policies = [k["content"] for _, k in page.elements if k.get("http-equiv")]
    assert policies and str(policies[0]).startswith("default-src 'none'")


def test_every_number_has_its_protocol(tmp_path: Path) -> None:
    spec = {"objective": {"metric": "evaluation/episode_return_mean", "last": 2}}
    run = one_run(
        tmp_path / "run",
        TWO,
        env={"id": "atari/Pong", "frame_skip": 4},
        metrics=["evaluation/episode_return_mean"],
        spec=spec,
    )
    page = page_of(run)
    (said,) = page.classes["protocol"]
    assert said == (
        "Protocol: return: mean of the last 2 values (mean of 10 evaluation episodes), "
        "deterministic actions; 10,000 env steps (2,500 agent steps of 4); 5 seeds."
    )
    notes = {one["key"]: one["note"] for one in page.data["metrics"]}
    assert notes["return"] == "mean of the last 20 training episodes, exploring actions"
    assert notes["evaluation/episode_return_mean"].endswith("deterministic actions")
    captions = " ".join(page.classes["hint"])
    assert "final return: mean of the last 20 training episodes, exploring actions" in captions


def test_unlike_protocols_are_not_compared(tmp_path: Path) -> None:
    pong = one_run(tmp_path / "pong", TWO, env={"id": "atari/Pong"})
    alien = one_run(tmp_path / "alien", TWO, env={"id": "atari/Alien"})
    longer = one_run(tmp_path / "longer", TWO, env={"id": "atari/Pong"}, env_steps=20_000)
    page = page_of(pong, alien, longer)
    assert page.classes["task"] == [
        "atari/Pong (10,000 env steps)",
        "atari/Alien",
        "atari/Pong (20,000 env steps)",
    ]
    assert "no returns are compared or averaged across protocols" in page.classes["notice"][0]
    assert [len(table) for table in page.tables[:3]] == [3, 3, 3]


def test_two_runs_of_one_name_are_not_one_variant(tmp_path: Path) -> None:
    first = one_run(tmp_path / "run", TWO)
    second = one_run(tmp_path / "run-2", {"none": [30.0, 32, 31, 29, 30.5]})
    page = page_of(first, second)
    assert [line[:2] for line in page.tables[0][1:]] == [
        ["none (run-2)", "5"],
        ["icm (run)", "5"],
        ["none (run)", "5"],
    ]


def test_settings_that_differ_are_marked(tmp_path: Path) -> None:
    first = one_run(tmp_path / "a", {"none": [1.0, 2, 3]})
    second = one_run(
        tmp_path / "b", {"icm": [1.0, 2, 3]}, spec={"auxiliary": {"icm": {"coeff": 2}}}
    )
    page = page_of(first, second)
    differing = next(table for table in page.tables if table[0][0] == "setting")
    assert ["auxiliary.icm.coeff", "(absent)", "2"] in [
        [row[0], *sorted(row[1:])] for row in differing
    ]
    assert "2" in page.classes.get("mark", []) or any(tag == "mark" for tag, _ in page.elements)


def test_a_run_without_results_is_named_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="no trial has reported yet"):
        read_report([tmp_path / "empty"])
    page = page_of(one_run(tmp_path / "run", TWO), tmp_path / "empty")
    assert any("no trial has reported yet" in text for text in page.classes["faulty"])


def test_charts_have_alternative_text_and_tables_have_captions(tmp_path: Path) -> None:
    page = page_of(one_run(tmp_path / "run", TWO))
    plots = [known for _, known in page.elements if known.get("role") == "img"]
    assert plots and all(known.get("aria-label") for known in plots)
    count = [tag for tag, _ in page.elements]
    assert count.count("caption") == count.count("table") == len(page.tables)
