"""Methods over several tasks are normalized and aggregated if the tasks have a common scale."""

from pathlib import Path

import numpy as np
import pytest

from rlssl.analysis.report import read_report
from rlssl.analysis.report.comparisons import over_tasks_sections, published_sections
from rlssl.analysis.report.tasks import DMC, HUMAN, method_name, over_tasks
from rlssl.analysis.report.verdict import headline, verdict_of
from rlssl.analysis.statistics import iqm
from tests.analysis.report.runs import one_run, write_run_files, write_trial


def two_games(folder: Path) -> list[Path]:
    pong = {"none": [-20.7, -20.7, -20.7], "curl": [14.6, 14.6, -20.7]}
    alien = {"none": [227.8, 227.8, 227.8], "curl": [7127.7, 7127.7, 227.8]}
    return [
        one_run(folder / "pong", pong, env={"id": "atari/Pong"}),
        one_run(folder / "alien", alien, env={"id": "atari/Alien"}),
    ]


def test_atari_games_are_human_normalized(tmp_path: Path) -> None:
    found = over_tasks(read_report(two_games(tmp_path)))
    assert found is not None and found.scale == HUMAN
    curl, none = found.methods
    # Random is 0 and human is 1, on both games.
    assert curl.scores == pytest.approx(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
    assert none.scores == pytest.approx(np.zeros((2, 3)))
    assert curl.aggregates[0].value == pytest.approx(iqm(curl.scores))
    assert found.headline.startswith(
        "curl has the highest IQM of the human-normalized score over 2"
    )


def test_headline_says_that_returns_are_not_averaged(tmp_path: Path) -> None:
    report = read_report(two_games(tmp_path))
    said = headline(report, [verdict_of(group) for group in report.groups])
    assert said.startswith("curl has the highest IQM")
    assert said.endswith("no returns are compared or averaged across protocols.")


def test_dm_control_is_divided_by_its_greatest_return(tmp_path: Path) -> None:
    runs = [
        one_run(tmp_path / task, {"sac": [500.0, 250, 750]}, env={"id": f"dmc/{task}-run"})
        for task in ("cheetah", "walker")
    ]
    found = over_tasks(read_report(runs))
    assert found is not None and found.scale == DMC
    assert found.methods[0].scores == pytest.approx(np.array([[0.5, 0.25, 0.75]] * 2))


def test_tasks_without_a_common_scale_are_not_aggregated(tmp_path: Path) -> None:
    pong = one_run(tmp_path / "pong", {"none": [1.0, 2, 3]}, env={"id": "atari/Pong"})
    cart = one_run(tmp_path / "cart", {"none": [100.0, 200, 300]})
    found = over_tasks(read_report([pong, cart]))
    assert found is not None and not found.methods and found.headline == ""
    (section,) = over_tasks_sections(read_report([pong, cart]))
    assert section.text == ["Tasks are not aggregated: their scores have no common scale."]


def test_one_task_with_two_budgets_is_not_two_tasks(tmp_path: Path) -> None:
    short = one_run(tmp_path / "short", {"none": [1.0, 2, 3]})
    long = one_run(tmp_path / "long", {"none": [1.0, 2, 3]}, env_steps=20_000)
    assert over_tasks(read_report([short, long])) is None


def test_methods_of_a_search_over_environments_have_one_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    points = [
        {"env.id": f"atari/{game}", "variant": name}
        for game in ("Pong", "Alien")
        for name in ("clip", "kl")
    ]
    write_run_files(folder, points, [f"point {at}" for at in range(4)], 3)
    for at, point in enumerate(points):
        for seed in range(3):
            path = folder / f"t-{at}-{seed}"
            env = {"id": point["env.id"]}
            write_trial(path, point=point, label=f"point {at}", seed=seed, score=5.0, env=env)
    report = read_report([folder])
    assert {method_name(one) for one in report.variants} == {"clip", "kl"}
    found = over_tasks(report)
    assert found is not None and len(found.methods) == 2


def test_seeds_and_methods_that_are_missing_are_named(tmp_path: Path) -> None:
    pong, alien = two_games(tmp_path)
    more = one_run(
        tmp_path / "amidar",
        {"curl": [5.8, 5.8, 1719.5, 1719.5]},
        env={"id": "atari/Amidar"},
    )
    found = over_tasks(read_report([pong, alien, more]))
    assert found is not None
    assert "Left out, because they were not run on every task: none." in found.notes
    assert "curl: of each task, the first 3 seeds; some tasks have more." in found.notes


def test_published_numbers_stand_beside_with_what_is_unlike(tmp_path: Path) -> None:
    pong, _ = two_games(tmp_path)
    (section,) = published_sections(read_report([pong]))
    (table,) = section.tables
    own, published = table.rows[0], {row.cells[0].text.split(",")[0]: row for row in table.rows}
    assert own.cells[0].text == "curl"
    human = published["human"].cells
    assert human[1].text == "14.6"
    assert "not stated" in human[2].text
    assert human[3].text.startswith("Laskin et al. 2020")
    assert human[4].text != "nothing"
    assert list(published_sections(read_report([one_run(tmp_path / "c", {"a": [1.0]})]))) == []
