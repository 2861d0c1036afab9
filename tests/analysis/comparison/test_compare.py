"""Two sides are compared by hand-set scores; nothing is computed from unlike numbers."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlssl.analysis.comparison import Comparison, Side, compare, read_side
from rlssl.analysis.comparison.curves import text_curves
from rlssl.analysis.comparison.sides import objective_of
from rlssl.analysis.comparison.text import as_data, lines_below, tables
from rlssl.analysis.objective import Objective
from rlssl.analysis.report.collect import report_of
from rlssl.analysis.report.verdict import lead_of
from rlssl.analysis.results import read_run
from rlssl.analysis.table import sweep_table
from rlssl.errors import SpecError
from tests.analysis.comparison.finished_runs import write_run, write_trial


def side(
    folder: Path,
    scores: Sequence[float],
    *,
    episodes: int = 20,
    objective: Objective | None = None,
    **options: Any,
) -> Side:
    """A run with a seed for each score; every episode of a seed has the same return."""
    write_run(folder, seeds=range(len(scores)))
    for seed, score in enumerate(scores):
        write_trial(folder, seed, [score] * episodes, **options)
    return read_side(read_run(folder), objective=objective)


def codes(found: Comparison) -> list[str]:
    return [one.code for one in found.cautions]


def test_scores_are_means_of_the_last_episodes(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seeds=[7])
    write_trial(tmp_path / "a", 7, [100.0] * 5 + [1.0, 3.0] * 10)
    assert read_side(read_run(tmp_path / "a")).scores == {7: 2.0}


def test_a_clear_difference_is_said_in_one_sentence(tmp_path: Path) -> None:
    # Means 12 and 2, variances 1, squared standard errors 1 / 3 each, 4 degrees of freedom.
    # Half width t(0.975, 4) * sqrt(2 / 3) = 2.776 * 0.8165 = 2.267.
    found = compare(side(tmp_path / "a", [11, 12, 13]), side(tmp_path / "b", [1, 2, 3]))
    assert found.verdict == (
        "A (a) is better by 10.0 than B (b): A - B = 10.0 [7.73, 12.3] (95% interval of A - B, "
        "Welch t)."
    )
    assert found.improvement == 1.0
    assert found.improvement_interval is not None and found.improvement_interval.low < 0.51
    assert codes(found) == ["few_seeds", "few_seeds"]


def test_a_difference_that_may_be_chance_is_not_called_one(tmp_path: Path) -> None:
    found = compare(side(tmp_path / "a", [1, 9, 2]), side(tmp_path / "b", [3, 4, 8]))
    assert found.verdict.startswith("The difference is not clear: A - B = -1.00 [")


def test_lower_may_be_better(tmp_path: Path) -> None:
    objective = Objective("aux/icm/loss", "min")
    sides = []
    for name, values in (("a", [1.0, 1.1, 0.9]), ("b", [5.0, 5.1, 4.9])):
        folder = write_run(tmp_path / name)
        for seed, value in enumerate(values):
            write_trial(folder, seed, [1.0], last={"aux/icm/loss": value})
        sides.append(read_side(read_run(folder), objective=objective))
    found = compare(sides[0], sides[1], objective)
    assert found.verdict.startswith("A (a) is better by 4.00 than B (b): A - B = -4.00")
    assert found.improvement == 1.0


def test_one_seed_has_no_interval_and_no_winner(tmp_path: Path) -> None:
    found = compare(side(tmp_path / "a", [5]), side(tmp_path / "b", [1]))
    assert found.verdict.endswith("There is no interval, so this may be chance.")
    assert (found.improvement, found.improvement_interval) == (1.0, None)
    assert codes(found) == ["one_seed", "one_seed"]


def test_tiny_scores_are_shown(tmp_path: Path) -> None:
    first, second = ([scale * one for one in (1, 2, 3)] for scale in (1e-7, 1e-5))
    found = compare(side(tmp_path / "a", first), side(tmp_path / "b", second))
    # Means 2e-7 and 2e-5.
    assert found.verdict.startswith("The difference is not clear: A - B = -1.98e-05 [-4.46e-05, ")


def test_seeds_without_any_spread_have_no_interval(tmp_path: Path) -> None:
    found = compare(side(tmp_path / "a", [500] * 5), side(tmp_path / "b", [9] * 5))
    assert found.difference is not None and found.difference.interval is None
    assert codes(found) == ["no_spread", "no_spread"]


def test_scores_have_the_intervals_of_the_table(tmp_path: Path) -> None:
    # All solved: Wilson's interval, [0.439, 1]; also beside a side that is not compared with it.
    solved = side(tmp_path / "a", [1, 1, 1])
    other = side(tmp_path / "b", [1, 2, 9], spec={"env": {"id": "Other-v0"}})
    table, *_ = tables(compare(solved, other), None)
    assert [str(cell) for cell in table.columns[1].cells][1] == "1.00 [0.439, 1.00]"


def test_a_score_has_one_interval_in_the_comparison_the_report_and_the_table(
    tmp_path: Path,
) -> None:
    # As MiniGrid's: returns in [0, 1], 0 without a success. Point 1 alone looks like shares.
    points = [{"training.lr": 0.1}, {"training.lr": 0.2}]
    folder = write_run(tmp_path / "sweep", points)
    for point, scores in zip(points, ([0.0, 0.85, 0.0], [0.0, 0.0, 1.0]), strict=True):
        for seed, score in enumerate(scores):
            solved: list[int | str] = [int(score > 0)] * 20
            write_trial(folder, seed, [score] * 20, point=point, successes=solved)
    run = read_run(folder)
    sides = read_side(run, "0"), read_side(run, "1")
    rows = sweep_table(run.trials)
    assert [side.estimate for side in sides] == [row.final_return for row in rows]
    # 0.283 +- 4.303 * 0.491 / sqrt(3) and 0.333 +- 4.303 * 0.577 / sqrt(3), both cut to [0, 1].
    assert [tuple(row.final_return.interval or ()) for row in rows] == [(0.0, 1.0)] * 2
    found = compare(*sides[::-1])
    # 0.05 +- 2.8 * sqrt(0.0803 + 0.111) = 0.05 +- 1.2: a difference cannot leave [-1, 1].
    assert found.difference is not None and found.difference.method == "Welch t"
    assert found.difference.interval == (-1.0, 1.0)
    (group,) = report_of([run]).groups
    assert lead_of(*group.scored).difference.interval == found.difference.interval


def test_solved_or_not_is_compared_as_shares(tmp_path: Path) -> None:
    found = compare(side(tmp_path / "a", [1, 1, 1, 1, 1]), side(tmp_path / "b", [0, 0, 0, 0, 1]))
    assert found.difference is not None
    assert found.difference.method == "Newcombe, for shares"
    assert found.difference.interval is not None and found.difference.interval.high <= 1.0


@pytest.mark.parametrize(
    ("spec", "difference"),
    [
        ({"env": {"id": "Pendulum-v1"}}, "environment: CartPole-v1 and Pendulum-v1"),
        ({"env": {"id": "CartPole-v1", "sutton": True}}, "none and sutton=true"),
    ],
)
def test_nothing_is_computed_from_unlike_protocols(
    tmp_path: Path, spec: dict[str, Any], difference: str
) -> None:
    found = compare(side(tmp_path / "a", [1, 2, 3]), side(tmp_path / "b", [1, 2, 3], spec=spec))
    assert (found.difference, found.improvement, found.at_common_steps) == (None, None, None)
    assert "protocols are unlike" in found.verdict and difference in found.verdict
    data = as_data(found)
    assert data["difference"] is None
    assert (data["a"]["scores"], data["b"]["scores"]) == ({"0": 1.0, "1": 2.0, "2": 3.0},) * 2


def test_seeds_of_unlike_protocols_are_no_side(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, seeds=range(2))
    for seed, env in enumerate(["CartPole-v1", "Acrobot-v1"]):
        write_trial(run, seed, [1.0] * 20, spec={"env": {"id": env}})
    with pytest.raises(SpecError, match="unlike protocols: environment: CartPole-v1 and Acrobot"):
        read_side(read_run(run))


def test_budgets_that_differ_are_said_and_compared_where_both_have_been(tmp_path: Path) -> None:
    rising = side(tmp_path / "a", [10, 11, 12], episodes=20)
    longer = write_run(tmp_path / "b")
    for seed in range(3):
        write_trial(longer, seed, [float(seed)] * 20 + [99.0] * 20)
    found = compare(rising, read_side(read_run(longer)))
    assert found.verdict.endswith("But the budgets differ: 2,000 and 4,000 env steps.")
    assert found.at_common_steps is not None
    steps, there = found.at_common_steps
    # At 2,000 env steps B has the scores 0, 1, 2: 11 - 1.
    assert (steps, there.value) == (2000, 10.0)
    assert found.difference is not None and found.difference.value == 11 - 99


def test_failed_missing_and_unfinished_seeds_are_named_and_not_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", seeds=range(5))
    write_trial(folder, 0, [1.0] * 20)
    failed = write_trial(folder, 1, [999.0] * 10, done=False)
    (failed / "error.txt").write_text("ValueError")
    write_trial(folder, 3, [999.0] * 5, done=False)
    found = read_side(read_run(folder))
    assert found.scores == {0: 1.0}
    assert list(found.notes) == [
        "seed 1 failed at 1,000 env steps: not counted.",
        "seed 3 is unfinished at 500 env steps: not counted.",
        "seed 2, 4 has no result.",
    ]
    assert [one.code for one in found.cautions] == ["missing_seeds"]


def test_without_a_finished_seed_unfinished_ones_count_and_that_is_said(tmp_path: Path) -> None:
    found = side(tmp_path / "a", [1, 2, 3], done=False)
    assert found.scores == {0: 1.0, 1: 2.0, 2: 3.0}
    assert found.notes[-1] == "no seed has finished, so that unfinished ones are counted."


def test_equal_seeds_are_not_counted_twice(tmp_path: Path) -> None:
    folder = tmp_path / "collected"  # by hand: without the files of a run
    folder.mkdir()
    for number, episodes in enumerate([20, 30]):
        write_trial(folder, 0, [float(number)] * episodes, folder=f"copy{number}")
    found = read_side(read_run(folder))
    assert found.scores == {0: 1.0}
    assert found.notes[0].endswith("equal seeds are not independent: copy0 is left out.")


def test_episodes_that_are_not_finite_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", seeds=[0])
    write_trial(folder, 0, [2.0] * 10 + ["nan", "inf"])
    run = read_run(folder)
    found = read_side(run)
    assert found.scores == {0: 2.0}
    assert [one.code for one in found.cautions] == ["few_episodes"]
    assert "is not a row of numbers" in run.problems[0]


def test_a_side_without_episodes_has_nothing_to_compare(tmp_path: Path) -> None:
    found = compare(side(tmp_path / "a", [1, 2, 3], episodes=0), side(tmp_path / "b", [1, 2, 3]))
    assert found.verdict == "There is nothing to compare: A (a) without a score."
    assert found.difference is not None and math.isnan(found.difference.value)
    assert as_data(found)["difference"] is None
    assert "A: 3 seeds without a score: seeds 0, 1, 2 have no finished episode." in found.notes


def test_the_same_trials_on_both_sides_are_noticed(tmp_path: Path) -> None:
    one = side(tmp_path / "a", [1, 2, 3])
    found = compare(one, one)
    assert found.notes == ["Both sides are the same trials."]
    assert found.difference is not None and found.difference.value == 0.0
    assert found.improvement == 0.5


def test_points_are_named_by_label_or_index_and_never_averaged(tmp_path: Path) -> None:
    points = [{"training.lr": 0.1}, {"training.lr": 0.2}, {"training.lr": 0.3}]
    folder = write_run(tmp_path / "sweep", points, seeds=[0])
    for point, score in zip(points[:2], (1.0, 2.0), strict=True):
        write_trial(folder, 0, [score] * 20, point=point)
    run = read_run(folder)
    assert read_side(run, "lr=0.2").scores == read_side(run, "1").scores == {0: 2.0}
    with pytest.raises(SpecError, match="points are never averaged; name one"):
        read_side(run)
    with pytest.raises(SpecError, match=r"no point 'lr=0.25'; did you mean 'lr=0.2'"):
        read_side(run, "lr=0.25")
    with pytest.raises(SpecError, match="'2' of sweep has no trial with a result yet"):
        read_side(run, "2")


def test_points_of_a_sweep_are_said_to_be_chosen_among_others(tmp_path: Path) -> None:
    points = [{"training.lr": value} for value in (0.1, 0.2, 0.3)]
    folder = write_run(tmp_path / "sweep", points, seeds=[0])
    for point in points:
        write_trial(folder, 0, [1.0] * 20, point=point)
    first, second = (read_side(read_run(folder), name) for name in ("0", "1"))
    notes = compare(first, second).notes
    assert any("their scores, here among 3: rlssl report" in note for note in notes)
    single = side(tmp_path / "a", [1.0])
    assert not any("one comparison" in note for note in compare(single, single).notes)


def test_settings_and_cost_stand_beside_the_scores(tmp_path: Path) -> None:
    points = [{"training.lr": 0.1}, {"training.lr": 0.2}]
    folder = write_run(tmp_path / "sweep", points)
    for point in points:
        for seed in range(3):
            write_trial(folder, seed, [1.0 + seed] * 20, point=point)
    run = read_run(folder)
    found = compare(read_side(run, "0"), read_side(run, "1"))
    data = as_data(found)
    assert data["settings_that_differ"] == {"training.lr": {"a": "0.1", "b": "0.2"}}
    assert (data["a"]["seconds"], data["a"]["env_steps_per_s"]) == (10.0, 200.0)
    assert any("settings are the same" in line for line in lines_below(found, None))


def test_the_metric_of_the_search_keeps_its_rules(tmp_path: Path) -> None:
    own = Objective("aux/icm/loss", "min", 3)
    side(tmp_path / "a", [1], spec={"objective": vars(own)})
    run = read_run(tmp_path / "a")
    assert objective_of("aux/icm/loss", None, run.trials) == own
    assert objective_of("aux/icm/loss", "max", run.trials) == Objective("aux/icm/loss", "max", 3)
    assert objective_of("success_rate", None, run.trials) == Objective("success_rate")


def test_more_episodes_of_the_same_seeds_do_not_make_an_interval_narrower(tmp_path: Path) -> None:
    # Episodes of one seed are not independent: the seed counts, however many it plays.
    few = compare(side(tmp_path / "a", [1, 4, 9]), side(tmp_path / "b", [2, 3, 7]))
    many = compare(
        side(tmp_path / "c", [1, 4, 9], episodes=500), side(tmp_path / "d", [2, 3, 7], episodes=500)
    )
    assert few.difference is not None and many.difference is not None
    assert few.difference.interval == many.difference.interval
    assert few.improvement_interval == many.improvement_interval


def test_agent_steps_are_not_taken_for_env_steps(tmp_path: Path) -> None:
    # Both have 2,000 frames; at repeats of 2 and 8, the agents acted 1,000 and 250 times.
    sides = [
        side(
            tmp_path / f"repeat{repeat}",
            [1, 2, 3],
            spec={"env": {"id": "dmc/cartpole-swingup", "action_repeat": repeat}},
        )
        for repeat in (2, 8)
    ]
    found = compare(sides[0], sides[1])
    assert found.unlike == []
    assert [one.protocol.label.split("; ")[1] for one in sides] == [
        "2,000 env steps (1,000 agent steps of 2)",
        "2,000 env steps (250 agent steps of 8)",
    ]
    assert "An agent step is 2 and 8 env steps: budgets are compared in env steps." in found.notes
    assert found.at_common_steps is None


def test_a_greater_number_of_seeds_on_one_side_is_no_obstacle(tmp_path: Path) -> None:
    found = compare(side(tmp_path / "a", [1, 2, 3]), side(tmp_path / "b", [1, 2, 3, 4, 5, 6]))
    assert found.difference is not None and found.difference.interval is not None
    assert codes(found) == ["few_seeds"]


def test_curves_share_both_axes(tmp_path: Path) -> None:
    low, high = side(tmp_path / "a", [0, 0], episodes=10), side(tmp_path / "b", [7, 7], episodes=20)
    curves = text_curves([low, high], width=20)
    assert curves is not None
    # A ends in the middle of B: 100 to 1,000 of 100 to 2,000 env steps.
    assert curves.lines == ("▁" * 10 + " " * 10, "█" * 20)
    assert curves.caption == ("return, mean over seeds: ▁ 0.00 to █ 7.00; 100 to 2,000 env steps")
    assert text_curves([side(tmp_path / "c", [1], episodes=0)]) is None


def test_curves_of_updates_say_so_and_name_their_metric(tmp_path: Path) -> None:
    a = side(tmp_path / "a", [1.0])
    spec = {**a.trials[0].spec, "objective": {"metric": "evaluation/success_rate"}}
    rows = [{"updates": 500, "evaluation/success_rate": 0.2, "evaluation/updates": 500}]
    trial = dataclasses.replace(a.trials[0], spec=spec, results=rows)
    curves = text_curves([dataclasses.replace(a, trials=[trial], counted=[trial])])
    assert curves is not None
    words = "evaluation/success_rate, mean over seeds: ▁ 0.200 to █ 0.200; at 500 updates"
    assert curves.caption == words
