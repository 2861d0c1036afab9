"""The first sentence: which variant is best, by how much, how sure, and what to beware of."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlssl.analysis.report import read_report
from rlssl.analysis.report.markdown import markdown_of
from rlssl.analysis.report.sections import sections_of
from rlssl.analysis.report.tables import summary_table
from rlssl.analysis.report.verdict import Verdict, lead_of, verdict_of
from rlssl.analysis.results import read_run
from rlssl.analysis.table import render_table, sweep_table
from tests.analysis.report.runs import Scores, one_run, write_run_files, write_trial

CLEAR: Scores = {"none": [10.0, 12, 11, 9, 10.5], "icm": [20.0, 22, 21, 19, 25]}


def verdict(tmp_path: Path, scores: Scores, **options: Any) -> Verdict:
    report = read_report([one_run(tmp_path / "run", scores, **options)])
    (group,) = report.groups
    return verdict_of(group)


def test_best_variant_by_how_much_and_how_sure(tmp_path: Path) -> None:
    found = verdict(tmp_path, CLEAR)
    assert found.headline == (
        "icm is best: final return 21.4 [18.5, 24.3]. It is ahead of none (10.5 [9.11, 11.9]) "
        "by 10.9 [8.07, 13.7]."
    )
    assert found.certainty == (
        "The difference is clear: the 95% interval of the difference (Welch t) excludes 0. "
        "A seed of icm beats a seed of none with probability 100% [64%, 100%]."
    )
    assert found.warnings == []
    table = summary_table(found.group)
    assert table.header[-2:] == ["best is ahead by", "best wins"]
    assert [row.mark for row in table.rows] == ["best", ""]


def test_interval_of_the_difference_is_welch_s(tmp_path: Path) -> None:
    found = verdict(tmp_path, CLEAR).lead
    assert found is not None and found.difference.interval is not None
    # Variances 1.25 and 5.3: standard error sqrt(1.25 / 5 + 5.3 / 5) = 1.1446, and with
    # 1.31^2 / (0.25^2 / 4 + 1.06^2 / 4) = 5.79 degrees of freedom t = 2.469.
    assert found.difference.value == pytest.approx(10.9)
    assert found.difference.interval.low == pytest.approx(10.9 - 2.469 * 1.1446, abs=0.01)
    assert found.difference.interval.high == pytest.approx(10.9 + 2.469 * 1.1446, abs=0.01)


def test_shares_have_newcombe_s_interval(tmp_path: Path) -> None:
    scores = {"none": [0.0] * 5, "bonus": [1.0] * 5}
    found = verdict(tmp_path, scores, num_episodes=20).lead
    assert found is not None and found.difference.interval is not None
    interval = found.difference.interval
    # Wilson: [0, .4345] and [.5655, 1]; 1 - sqrt(.4345^2 + .4345^2) = .3855. Never above 1.
    assert interval.low == pytest.approx(0.3855, abs=1e-3)
    assert interval.high == pytest.approx(1.0)


def test_shares_have_no_warning_about_normal_scores(tmp_path: Path) -> None:
    scores = {"none": [0.0] * 3, "bonus": [1.0] * 3}
    found = verdict(tmp_path, scores, num_episodes=20)
    words = "3 seeds, fewer than 5: the interval is wide, and says little."
    assert found.warnings == [f"All variants: {words}"]


def test_without_a_score_the_missing_value_is_named(tmp_path: Path) -> None:
    spec = {"objective": {"metric": "evaluation/episode_return_mean"}}
    assert (
        verdict(tmp_path, CLEAR, spec=spec).certainty
        == "No result has a value of evaluation/episode_return_mean yet."
    )


def test_overlapping_seeds_are_not_a_clear_difference(tmp_path: Path) -> None:
    found = verdict(tmp_path, {"a": [1.0, 5, 9, 4, 6], "b": [2.0, 5, 8, 3, 6]})
    assert found.headline.startswith("No difference can be told between a and b: final return 5.00")
    assert found.headline.endswith(", a difference of 0.200 [-3.71, 4.11].")
    header = summary_table(found.group).header
    assert header[-2:] == ["highest is ahead by", "highest wins"]
    rows = summary_table(found.group).rows
    assert [row.mark for row in rows] == ["", ""] and rows[0].cells[-2].text == "highest"
    assert found.certainty.startswith("The difference is not clear: the 95% interval")
    # 5 is above 2 numbers and ties with 1, 9 above 5, 4 above 2, 6 above 3 and ties with 1: 13/25.
    assert "with probability 52% [" in found.certainty


def test_lower_is_better_if_the_objective_is_minimized(tmp_path: Path) -> None:
    spec = {"objective": {"metric": "episode_return_mean", "mode": "min"}}
    found = verdict(tmp_path, CLEAR, spec=spec)
    assert found.headline.startswith(
        "none is best: objective (episode_return_mean, lower is better)"
    )
    assert found.lead is not None
    assert found.lead.difference.value > 0 and found.lead.probability == 1.0


def test_few_seeds_are_a_warning(tmp_path: Path) -> None:
    three = verdict(tmp_path / "3", {"a": [1.0, 2, 3], "b": [4.0, 5, 6]})
    assert three.warnings[0].startswith("All variants: 3 seeds, fewer than 5: the interval holds")
    one = verdict(tmp_path / "1", {"a": [1.0], "b": [4.0]})
    assert one.warnings[0].startswith("All variants: 1 seed: no interval;")
    assert one.headline.endswith("a difference of 3.00 [n/a].")
    assert one.certainty.startswith("How sure this is cannot be said")


def mixed_run(folder: Path, status: str) -> Path:
    """Two points of two seeds; the second seed of the second point has ``status``."""
    points = [{"variant": "a"}, {"variant": "b"}]
    write_run_files(folder, [*points, {"variant": "c"}], ["a", "b", "c"], 2)
    for point, label, statuses in zip(
        points, "ab", (["finished"] * 2, ["finished", status]), strict=True
    ):
        for seed, each in enumerate(statuses):
            path = folder / f"{label}-{seed}"
            write_trial(path, point=point, label=label, seed=seed, score=5.0 + seed, status=each)
    return folder


@pytest.mark.parametrize("status", ["failed", "unfinished"])
def test_seeds_that_did_not_finish_are_named(tmp_path: Path, status: str) -> None:
    (group,) = read_report([mixed_run(tmp_path / "run", status)]).groups
    warnings = verdict_of(group).warnings
    words = {"failed": "has failed and is", "unfinished": "is unfinished and"}[status]
    assert f"1 seed {words} not in the scores: b." in warnings
    assert "1 point has no result: c." in warnings


def run_with_a_seed_that_failed_at_once(folder: Path) -> Path:
    """Seed 0 of icm leaves the files of a trial that failed in its first iteration."""
    one_run(folder, {"none": [1.0, 2, 3], "icm": [7.0, 8, 9]})
    failed = folder / "trial-001-seed0"
    (failed / "result.json").write_text("")
    (failed / "episodes.csv").unlink()
    (failed / "error.txt").write_text("ValueError: broken\n")
    return folder


def test_a_seed_that_failed_before_its_first_result_is_named(tmp_path: Path) -> None:
    folder = run_with_a_seed_that_failed_at_once(tmp_path / "run")
    report = read_report([folder])
    verdicts = [verdict_of(group) for group in report.groups]
    words = "1 seed has no result, so that the scores are without: icm (seed 0)."
    assert words in verdicts[0].warnings
    failed = folder / "trial-001-seed0" / "error.txt"
    assert report.faults == [f"trials that failed before their first result: 1: {failed}"]
    assert "scores are without: icm (seed 0)." in markdown_of(report, verdicts)
    (table,) = sections_of(report)[-1].tables
    assert table.rows[0].cells[1].text == "5 finished, 1 without a result"


def test_a_seed_without_a_folder_is_named(tmp_path: Path) -> None:
    folder = one_run(tmp_path / "run", {"none": [1.0, 2, 3], "icm": [7.0, 8]})
    (group,) = read_report([folder]).groups
    words = "1 seed has no result, so that the scores are without: icm (seed 2)."
    assert words in verdict_of(group).warnings


def test_a_run_that_is_still_running_says_so(tmp_path: Path) -> None:
    folder = mixed_run(tmp_path / "run", "unfinished")
    report = read_report([folder], running=[folder])
    words = "run is still running: 3 of 6 trials finished, 2 without a result."
    assert report.notices == [f"{words} All scores may change."]
    assert words in markdown_of(report, [verdict_of(group) for group in report.groups])
    (table,) = sections_of(report)[-1].tables
    assert table.rows[0].cells[1].text == ("running: 3 finished, 1 unfinished, 2 without a result")
    assert read_report([folder]).notices == []


def test_a_variant_whose_seeds_all_failed_is_not_best(tmp_path: Path) -> None:
    good = one_run(tmp_path / "good", {"none": [1.0, 2, 3]})
    bad = one_run(tmp_path / "bad", {"rnd": [7.0, 8, 9]}, status="failed")
    (group,) = read_report([good, bad]).groups
    found = verdict_of(group)
    assert found.headline == "none (good): final return 2.00 [-0.484, 4.48]."
    assert "Not compared, because no seed has finished: rnd (bad)." in found.warnings


def test_scores_of_few_episodes_are_named(tmp_path: Path) -> None:
    run = one_run(tmp_path / "run", CLEAR, num_episodes=7)
    found = verdict_of(read_report([run]).groups[0])
    words = "seeds 0, 1, 2, 3, 4 finished fewer than 20 episodes: the mean of all of them counts."
    assert found.warnings == [f"All variants: {words}"]
    printed = Console(width=200)
    with printed.capture() as capture:
        printed.print(render_table(sweep_table(read_run(run).trials)))
    words = "last 20 episodes (of all, where a seed has fewer)"
    assert words in " ".join(capture.get().split())


def test_unequal_env_steps_and_versions_are_warnings(tmp_path: Path) -> None:
    first = one_run(tmp_path / "first", {"a": [1.0, 2, 3]})
    spec: dict[str, Any] = {"provenance": {"versions": {"ray": "2.59.0"}}}
    spec["stop"] = {"env_steps": 10_000}
    second = one_run(tmp_path / "second", {"b": [1.0, 2, 3]}, spec=spec, env_steps=9_000)
    (group,) = read_report([first, second]).groups
    found = verdict_of(group).warnings
    assert "Scores are at unequal env steps: from 9,000 to 10,000." in found
    assert "Trials were made with different versions: ray: 2.59.0, 2.60.0." in found


def test_the_best_of_many_is_selected(tmp_path: Path) -> None:
    found = verdict(tmp_path, {f"v{at}": [1.0 + at, 2, 3, 4, 5] for at in range(6)})
    assert any("The best of 6 variants was selected by its score" in one for one in found.warnings)


def test_many_comparisons_are_counted_and_corrected(tmp_path: Path) -> None:
    # Standard deviations 1, three seeds: standard error sqrt(2 / 3) = 0.816, 4 degrees of freedom.
    # Alone, a difference is clear above t(0.975) = 2.776, so 2.27. With three pairs, each needs
    # 1 - 0.05 / 3 = 98.3%: t(0.99167) = 3.961, so 3.23. 7 is 3 below 10, and 6 is 4 below.
    scores = {"a": [9.0, 10, 11], "b": [6.0, 7, 8], "c": [5.0, 6, 7]}
    found = verdict(tmp_path / "three", scores)
    several = found.comparisons
    assert several is not None and several.num_pairs == 3
    assert several.confidence == pytest.approx(1 - 0.05 / 3)
    assert [one.label for one in several.clear] == ["b", "c"]
    assert [one.label for one in several.clear_together] == ["c"]
    assert found.certainty.endswith(
        "Clear differences among the 2 comparisons with the first variant: 2 if each is judged "
        "alone; 1 if corrected for all 3 pairs of variants (Bonferroni): c."
    )
    assert summary_table(found.group).caption[-1] == (
        "2 comparisons, each with an interval of 95% that is not corrected for their number"
    )
    two = verdict(tmp_path / "two", CLEAR)
    assert two.comparisons is None and "comparisons" not in two.certainty


def test_lower_scores_that_are_better_are_corrected_alike(tmp_path: Path) -> None:
    spec = {"objective": {"metric": "episode_return_mean", "mode": "min"}}
    scores = {"a": [9.0, 10, 11], "b": [6.0, 7, 8], "c": [5.0, 6, 7]}
    several = verdict(tmp_path, scores, spec=spec).comparisons  # c is best: 1 and 4 ahead
    assert several is not None
    assert [one.label for one in several.clear_together] == ["a"]


def test_runs_without_env_steps_are_compared_by_their_last_evaluations(tmp_path: Path) -> None:
    folder = one_run(tmp_path / "run", {"a": [1.0, 2, 3], "b": [7.0, 8, 9]})
    for path in folder.glob("trial-*"):
        score = json.loads((path / "result.json").read_text().splitlines()[-1])
        evaluation = {"episode_return_mean": score["episode_return_mean"]}
        row = {"updates": 100, "done": True, "evaluation": evaluation}
        (path / "result.json").write_text(json.dumps(row) + "\n")
        (path / "episodes.csv").write_text("env_steps,return,length,success\n")
    (group,) = read_report([folder]).groups
    assert verdict_of(group).headline.startswith("b is best: final return 8.00 [")


def test_difference_of_a_variant_to_itself_is_nothing(tmp_path: Path) -> None:
    (group,) = read_report([one_run(tmp_path / "run", CLEAR)]).groups
    best = group.scored[0]
    found = lead_of(best, best)
    assert (found.difference.value, found.probability, found.is_clear) == (0.0, 0.5, False)


def test_markdown_has_verdict_protocol_and_table(tmp_path: Path) -> None:
    report = read_report([one_run(tmp_path / "run", {**CLEAR, "a|b": [1.0, 2, 3, 4, 5]})])
    lines = markdown_of(report, [verdict_of(group) for group in report.groups]).splitlines()
    assert lines[0] == "## run"
    assert lines[2].startswith("**icm is best: final return 21.4 \\[18.5, 24.3\\].")
    assert lines[4].startswith("CartPole-v1. return: mean of the last 20 training episodes")
    (row,) = [line for line in lines if line.startswith("| a\\|b")]
    assert row.replace("\\|", "").count("|") == 7
