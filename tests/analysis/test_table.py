"""The table of a sweep: means and intervals calculated by hand."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from rlssl.analysis import (
    read_run,
    read_sweep,
    read_trial,
    render_table,
    sweep_table,
    write_table_csv,
)
from rlssl.analysis.statistics import Interval
from rlssl.analysis.table import Estimate, VariantRow, describe_experiment, format_number

WriteTrial = Callable[..., Path]

ICM = {"auxiliary.icm.coeff": 0.1}
NONE = {"auxiliary.icm.coeff": 0.0}


def rendered(rows: list[VariantRow]) -> str:
    console = Console(width=80)  # rich's default width
    with console.capture() as capture:
        console.print(render_table(rows, width=80))
    return capture.get()


def test_variant_has_the_mean_over_its_seeds_with_students_t_interval(
    write_trial: WriteTrial,
) -> None:
    # Scores 1, 2, 3 (each a constant return): mean 2, half width 4.302653 / sqrt(3) = 2.484138.
    for seed, score in enumerate([1.0, 2.0, 3.0]):
        folder = write_trial(f"t{seed}", seed=seed, point=ICM, label="icm", returns=[score] * 5)
    (row,) = sweep_table(read_sweep(folder.parent))
    assert (row.variant, row.num_seeds, row.env_steps) == ("icm", 3, 500)
    assert row.final_return.mean == 2.0
    assert row.final_return.interval == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert str(row.final_return) == "2.00 [-0.484, 4.48]"


def test_intervals_are_below_the_means_where_labels_need_the_room() -> None:
    score = Estimate(0.0264, Interval(0.0, 0.0853), 3)
    rate = Estimate(0.125, Interval(0.0104, 0.661), 3)
    label = "icm.intrinsic_coeff=0.005, entropy_coeff=0.001879"
    lines = rendered([VariantRow(label, 3, score, rate, 3072)]).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[3].split() == ["icm.intrinsic_coeff=0.005,", "3", "3,072", "0.0264", "0.125"]
    below = ["entropy_coeff=0.001879", "[0.00,", "0.0853]", "[0.0104,", "0.661]"]
    assert lines[4].split() == below
    lines = rendered([VariantRow("icm", 3, score, rate, 3072)]).splitlines()
    assert "0.0264 [0.00, 0.0853]" in lines[3] and "0.125 [0.0104, 0.661]" in lines[3]


def test_score_is_the_mean_of_the_last_20_rows(write_trial: WriteTrial) -> None:
    # Rows 0 .. 29; the last 20 are 10 .. 29, mean (10 + 29) / 2 = 19.5.
    trial = read_trial(write_trial("a", returns=list(range(30))))
    assert sweep_table([trial])[0].final_return.mean == 19.5


def test_each_seed_counts_once_with_any_number_of_episodes(write_trial: WriteTrial) -> None:
    # Seed 0: one episode of 0. Seed 1: nine of 10. Mean of the means 5, not 90 / 10 = 9.
    trials = [
        read_trial(write_trial("a", seed=0, returns=[0.0])),
        read_trial(write_trial("b", seed=1, returns=[10.0] * 9)),
    ]
    assert sweep_table(trials)[0].final_return.mean == 5.0


def test_variants_differ_in_the_searched_values_and_not_in_the_seed(
    write_trial: WriteTrial,
) -> None:
    for index, (point, seed) in enumerate([(NONE, 0), (ICM, 0), (NONE, 1), (ICM, 1)]):
        folder = write_trial(f"t{index}", seed=seed, point=point, returns=[float(index)])
    rows = sweep_table(read_sweep(folder.parent))
    assert [row.variant for row in rows] == ["auxiliary.icm.coeff=0.0", "auxiliary.icm.coeff=0.1"]
    assert [row.num_seeds for row in rows] == [2, 2]
    assert [row.final_return.mean for row in rows] == [1.0, 2.0]  # (0 + 2) / 2, (1 + 3) / 2


def test_two_points_with_the_same_label_are_not_merged(write_trial: WriteTrial) -> None:
    write_trial("a", point=NONE, label="ppo", returns=[1.0])
    folder = write_trial("b", point=ICM, label="ppo", returns=[2.0])
    rows = sweep_table(read_sweep(folder.parent))
    assert [row.num_seeds for row in rows] == [1, 1]
    assert rows[0].variant != rows[1].variant


def test_two_experiments_without_search_are_two_variants(write_trial: WriteTrial) -> None:
    trials = [
        read_trial(write_trial("a", spec_name="cartpole", returns=[1.0])),
        read_trial(write_trial("b", spec_name="pendulum", returns=[2.0])),
    ]
    assert [row.variant for row in sweep_table(trials)] == ["cartpole", "pendulum"]


def test_one_seed_has_a_mean_without_an_interval(write_trial: WriteTrial) -> None:
    (row,) = sweep_table([read_trial(write_trial("a", returns=[0.5]))])
    assert row.final_return.interval is None
    assert "0.500 [n/a (1 seed)]" in rendered([row])


def test_two_seeds_have_no_interval(write_trial: WriteTrial) -> None:
    trials = [
        read_trial(write_trial(str(seed), seed=seed, returns=[1.0, 0.0], successes=[1, 0]))
        for seed in range(2)
    ]
    (row,) = sweep_table(trials)
    assert str(row.final_return) == str(row.success_rate) == "0.500 [n/a (2 seeds)]"


def test_success_rates_have_wilsons_interval(write_trial: WriteTrial) -> None:
    # Success rates 1, 1, 0.5, 0.5: p = 0.75, z^2 / n = 3.841459 / 4 = 0.960365.
    # (0.75 + 0.480182 +- sqrt(0.960365 * (0.1875 + 0.240091))) / 1.960365, the root is 0.640815:
    # 0.300642 and 0.954413.
    for seed, successes in enumerate([[1, 1], [1, 1], [1, 0], [0, 1]]):
        folder = write_trial(str(seed), seed=seed, returns=[5.0, 7.0], successes=successes)
    (row,) = sweep_table(read_sweep(folder.parent))
    assert row.success_rate.interval == pytest.approx((0.300642, 0.954413), abs=1e-6)
    assert row.final_return.interval == (6.0, 6.0)  # Student's t: the seeds agree


def test_returns_that_are_always_0_or_1_are_shares(write_trial: WriteTrial) -> None:
    for seed in range(3):
        write_trial(f"a{seed}", seed=seed, point=ICM, label="icm", returns=[1.0, 1.0])
        folder = write_trial(f"b{seed}", seed=seed, point=NONE, label="none", returns=[0.0])
    icm, none = sweep_table(read_sweep(folder.parent))
    # p = 1: 1 / (1 + 3.841459 / 3) = 0.438503; p = 0 is its mirror image.
    assert icm.final_return.interval == pytest.approx((0.438503, 1.0), abs=1e-6)
    assert none.final_return.interval == pytest.approx((0.0, 1 - 0.438503), abs=1e-6)
    # Without a return of 1, nobody knows that 1 is the largest return.
    (alone,) = sweep_table([trial for trial in read_sweep(folder.parent) if trial.point == NONE])
    assert alone.final_return.interval == (0.0, 0.0)


def test_trial_that_finished_no_episode_has_no_score(write_trial: WriteTrial) -> None:
    trials = [
        read_trial(write_trial("a", seed=0, returns=[])),
        read_trial(write_trial("b", seed=1, returns=[4.0])),
    ]
    (row,) = sweep_table(trials)
    assert (row.num_seeds, row.final_return.num_seeds) == (2, 1)
    assert str(sweep_table(trials[:1])[0].final_return) == "n/a"


def test_seed_without_a_score_is_counted_in_the_table(write_trial: WriteTrial) -> None:
    trials = [
        read_trial(write_trial(f"t{seed}", seed=seed, returns=returns))
        for seed, returns in enumerate([[], [1.0], [3.0]])
    ]
    text = rendered(sweep_table(trials))
    assert "2.00 [n/a (2 seeds)]" in text
    assert "(2 of 3 seeds)" in text


def test_success_is_averaged_if_known_and_left_out_if_never_known(
    write_trial: WriteTrial,
) -> None:
    known = read_trial(write_trial("a", point=ICM, returns=[1, 1, 1], successes=[1, 0, math.nan]))
    unknown = read_trial(write_trial("b", point=NONE, returns=[1, 1, 1]))
    rows = sweep_table([known, unknown])
    assert rows[0].success_rate.mean == 0.5
    assert rows[1].success_rate.num_seeds == 0
    assert "success rate" in rendered(rows)
    assert "success rate" not in rendered(rows[1:])


def test_csv_has_full_precision_and_leaves_unknown_values_empty(
    write_trial: WriteTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        read_trial(write_trial("a", seed=0, label="x, y", returns=[1.0])),
        read_trial(write_trial("b", seed=1, label="x, y", returns=[1.0])),
    ]
    monkeypatch.chdir(tmp_path)
    path = write_table_csv(sweep_table(trials), "table.csv")
    assert path == tmp_path / "table.csv"
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "variant": "x, y",
        "num_seeds": "2",
        "env_steps": "100",
        "final_return_mean": "1.0",
        "final_return_low": "",
        "final_return_high": "",
        "success_rate_mean": "",
        "success_rate_low": "",
        "success_rate_high": "",
        "num_finished": "2",
        "num_expected": "2",
        "stopped_at": "",
    }


def test_failed_and_unfinished_trials_are_counted_and_not_averaged(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run([NONE], seeds=range(5))
    for seed in range(5):
        ended = [{"env_steps": 100, "done": seed not in (2, 3)}]
        write_trial(str(seed), seed=seed, point=NONE, returns=[float(seed)], results=ended)
    (sweep / "2" / "error.txt").write_text("boom")
    (row,) = sweep_table(read_sweep(sweep))
    assert row.final_return.mean == pytest.approx(5 / 3)  # seeds 0, 1 and 4
    assert (row.num_seeds, row.num_finished, row.num_expected) == (3, 3, 5)
    assert "3 of 5 seeds" in rendered([row])


def test_seed_that_never_reported_is_counted(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run([NONE], seeds=[0, 1])
    write_trial("a", point=NONE, returns=[1.0], results=[{"env_steps": 9, "done": True}])
    assert "1 of 2 seeds" in rendered(sweep_table(read_sweep(sweep)))


def test_without_a_finished_trial_the_row_says_so(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run([NONE], seeds=[0, 1])
    write_trial("a", point=NONE, returns=[1.0])
    (row,) = sweep_table(read_sweep(sweep))
    assert row.notes == ["0 of 2 seeds", "unfinished"]
    assert row.final_return.mean == 1.0


def test_stopped_points_are_marked_and_points_without_a_trial_have_a_row(
    write_trial: WriteTrial, write_run: Callable[..., Path]
) -> None:
    sweep = write_run([NONE, ICM, {"x": 3}], stopped={1: 50_000})
    done = [{"env_steps": 60_000, "done": True}]
    write_trial("a", point=NONE, label="none", returns=[1.0], results=done)
    write_trial("b", point=ICM, label="icm", returns=[2.0], results=done)
    run = read_run(sweep)
    rows = sweep_table(run.trials, run.points)
    assert [(row.variant, row.notes) for row in rows] == [
        ("none", []),
        ("icm", ["stopped at 50,000"]),
        ("point 2", ["0 of 1 seed"]),
    ]
    assert str(rows[2].final_return) == "n/a"
    assert "stopped at 50,000" in rendered(rows)


def test_interval_of_returns_that_stay_in_0_1_stays_there_too(write_trial: WriteTrial) -> None:
    # As MiniGrid's: 0 for a failure, close to 1 for a success. t alone would give
    # 0.6 +- 4.302653 * 0.519615 / sqrt(3) = 0.6 +- 1.29.
    for seed, score in enumerate([0.9, 0.9, 0.0]):
        known = [float(score > 0)]
        folder = write_trial(str(seed), seed=seed, returns=[score], successes=known)
    (row,) = sweep_table(read_sweep(folder.parent))
    assert row.final_return.interval == (0.0, 1.0)


def test_points_with_one_old_label_get_labels_that_differ(write_trial: WriteTrial) -> None:
    for index, losses in enumerate([{"curl": None}, {"curl": {}}]):
        folder = write_trial(str(index), point={"auxiliary": losses}, label="curl", returns=[1.0])
    rows = sweep_table(read_sweep(folder.parent))
    assert [row.variant for row in rows] == ["none", "curl"]


def test_title_names_algorithm_environment_and_seeds(write_trial: WriteTrial) -> None:
    for seed in range(2):
        folder = write_trial(f"a{seed}", seed=seed, point=NONE, returns=[1.0])
    assert describe_experiment(read_sweep(folder.parent)) == "ppo on CartPole-v1, 2 seeds"
    write_trial("b", point=ICM, returns=[1.0])
    assert describe_experiment(read_sweep(folder.parent)) == "ppo on CartPole-v1, 1 to 2 seeds"


def test_brackets_in_a_label_are_not_read_as_markup(write_trial: WriteTrial) -> None:
    row = VariantRow("a [bold]b[/bold]", 1, Estimate(1.0, None, 1), Estimate(math.nan, None, 0), 9)
    assert "a [bold]b[/bold]" in rendered([row])


def test_table_without_trials_is_an_error() -> None:
    with pytest.raises(ValueError, match="trials must not be empty"):
        sweep_table([])


def test_the_interval_of_equal_seeds_is_explained(write_trial: WriteTrial) -> None:
    trials = [write_trial(f"s{seed}", seed=seed, returns=[500.0]) for seed in range(3)]
    rows = sweep_table([read_trial(path) for path in trials])
    assert str(rows[0].final_return) == "500 [500, 500]"
    words = "equal seeds: an interval without width says nothing about other seeds"
    assert words in " ".join(rendered(rows).split())
    # Shares have an interval: Wilson's is [0.439, 1] for three seeds that all succeed.
    trials = [
        write_trial(f"t{seed}", seed=seed, returns=[1.0], successes=[1.0]) for seed in range(3)
    ]
    (row,) = sweep_table([read_trial(path) for path in trials])
    assert str(row.success_rate) == "1.00 [0.439, 1.00]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.05123, "0.0512"),
        (-0.4841, "-0.484"),
        (12.345, "12.3"),
        (500, "500"),
        (999.7, "1,000"),
        (1234.5, "1,234"),
        (0.00512, "0.00512"),
        (0.000127, "0.000127"),
        (0.000012, "1.20e-05"),
        (-1.5e-7, "-1.50e-07"),
    ],
)
def test_numbers_show_three_digits(value: float, text: str) -> None:
    assert format_number(value) == text
