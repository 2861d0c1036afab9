"""`rlssl report`: writes a page, prints its path, and says in one line what it cannot do."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlssl.cli import main
from rlssl.experiment.lock import held
from tests.analysis.report.runs import one_run

SCORES = {"none": [1.0, 2, 3], "icm": [4.0, 5, 6]}


def report(*words: Any) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, words)])


def test_path_of_the_page_is_the_last_line(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    done = report("lab", "--storage", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [str(run / "report.html")]
    assert "icm is best" in (run / "report.html").read_text()


def test_markdown_is_alone_on_standard_output(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    done = report(run, "--markdown", "--out", tmp_path / "page.html")
    assert done.stdout.startswith("## lab\n")
    assert done.stderr.splitlines()[-1] == str(tmp_path / "page.html")


def test_json_has_the_numbers_of_the_tables_and_writes_nothing(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    done = report(run, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (group,) = found["groups"]
    best, other = group["variants"]
    assert (found["confidence"], best["label"], best["scores"]) == (
        0.95,
        "icm",
        {"0": 4.0, "1": 5.0, "2": 6.0},
    )
    # Standard deviation 1, t(0.975, 2) = 4.303: 5 +- 4.303 / sqrt(3) = 5 +- 2.484.
    assert best["final_return"]["mean"] == 5.0
    assert best["final_return"]["interval"] == pytest.approx([2.516, 7.484], abs=1e-3)
    # t(0.975, 4) = 2.776: 3 +- 2.776 * sqrt(2 / 3) = 3 +- 2.267.
    assert best["lead_of_the_first"] is None
    assert other["lead_of_the_first"]["interval"] == pytest.approx([0.733, 5.267], abs=1e-3)
    assert group["protocol"]["environment"] == "CartPole-v1"
    assert best["success_rate"] == {"mean": None, "interval": None, "num_seeds": 0}
    assert group["comparisons"] is None  # there is one only
    assert found["runs"]["lab"]["trials"] == {"finished": 6}
    assert not (run / "report.html").exists()


def test_json_has_every_variant_s_settings_and_may_come_with_a_page(tmp_path: Path) -> None:
    runs = []
    for index in range(9):  # the page shows the settings of eight
        spec = {"auxiliary": {"icm": {"coeff": float(index)}}}
        runs.append(one_run(tmp_path / f"r{index}", {"a": [1.0]}, spec=spec))
    done = report(*runs, "--json", "--out", tmp_path / "page.html")
    differing = json.loads(done.stdout)["settings_that_differ"]
    assert differing == {
        "auxiliary.icm.coeff": {f"a (r{index})": [float(index)] for index in range(9)}
    }
    assert done.stderr.splitlines()[-1] == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()


def test_names_in_other_languages_stay_readable(tmp_path: Path) -> None:
    run = one_run(tmp_path / "forêt", {"größe": [1.0], "長さ": [2.0]})
    printed = report(run, "--json").stdout
    assert "forêt" in printed and '"größe"' in printed and '"長さ"' in printed


def test_json_beside_markdown_is_refused(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    done = report(run, "--json", "--markdown")
    assert done.exit_code == 2 and "leave one of them" in done.stderr


def test_a_report_of_a_running_run_says_so(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    with held(run):
        done = report(run, "--markdown")
    words = "lab is still running: 6 of 6 trials finished, 0 without a result."
    assert words in done.stdout and words in (run / "report.html").read_text()
    assert "still running" not in report(run, "--markdown").stdout


def test_figures_are_png_and_svg(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    done = report(run, "--figures", tmp_path / "figures")
    assert f"10 figures: {tmp_path / 'figures'}" in done.stdout
    for path in (tmp_path / "figures").iterdir():
        beginning = {".png": b"\x89PNG", ".svg": b"<svg"}[path.suffix]
        assert path.read_bytes().startswith(beginning)


def test_several_runs_are_written_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [one_run(tmp_path / name, SCORES) for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    assert report(*runs).stdout.splitlines() == [str(tmp_path / "report.html")]


def test_a_run_without_results_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.json").write_text("{}")
    done = report(tmp_path / "empty")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].endswith("no trial has reported yet.")


def test_unknown_runs_and_folders_are_refused(tmp_path: Path) -> None:
    assert report("no-such-run", "--storage", tmp_path).exit_code == 2
    run = one_run(tmp_path / "lab", SCORES)
    done = report(run, "--out", tmp_path / "no" / "page.html")
    assert done.exit_code == 2
    assert "is not a folder; make it first." in done.stderr


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    (run / "report.html").mkdir()
    done = report(run)
    assert done.exit_code == 3
    words = (
        f"cannot write {run / 'report.html'}: is a directory; write it elsewhere: use --out FILE"
    )
    assert words in done.stderr


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = one_run(tmp_path / "lab", SCORES)
    known = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "vl_convert":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return known(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    done = report(run)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        "error: a report needs vl_convert: pip install 'rlssl[report]'"
    )
