"""Population-based training compares members at the same env steps, however many run at once."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial

from rlssl.analysis.lineage import read_lineage
from rlssl.analysis.objective import Objective
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints.inherit import restore_replaced
from rlssl.experiment.checkpoints.manifest import newest_valid
from rlssl.experiment.spec.dimension import Dimension
from rlssl.experiment.tuning.schedulers.explore import Explorer, quantiles
from rlssl.experiment.tuning.schedulers.pbt import PopulationBasedTraining
from tests.experiment.tuning.schedulers.populations import (
    END,
    EVERY,
    ITERATION,
    RATE,
    Killed,
    Population,
)

RATES = [1.0, 2.0, 3.0, 4.0]

# Two results between two comparisons, so that a network grows by twice its rate.
# At 10: 2, 4, 6, 8.      Member 0 takes 3: network 8, rate 4 * 2 = 8.
# At 20: 24, 8, 12, 16.   Member 1 takes 0: network 24, rate 8 * 2 = 16.
# At 30: 40, 56, 18, 24.  Member 2 takes 1: network 56, rate 16 * 2, but at most 16.
LINEAGE = [(10, 0, 3, 8.0), (20, 1, 0, 16.0), (30, 2, 1, 16.0)]
# At 40: 40 + 2 * 8, 56 + 2 * 16, 56 + 2 * 16, 24 + 2 * 4.
FINAL = [56.0, 88.0, 88.0, 32.0]


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_exploits_do_not_depend_on_how_many_members_run_at_once(tmp_path: Path, slots: int) -> None:
    population = Population(tmp_path, RATES, slots=slots).run()
    assert population.lineage == LINEAGE
    assert population.final_weights == FINAL


@pytest.mark.parametrize(("slots", "kill_after"), [*itertools.product([1, 3], range(1, 32))])
def test_a_run_that_is_killed_after_any_result_makes_the_same_exploits(
    tmp_path: Path, slots: int, kill_after: int
) -> None:
    with pytest.raises(Killed):
        Population(tmp_path, RATES, slots=slots, kill_after=kill_after).run()
    resumed = Population(tmp_path, RATES, slots=slots).run()
    assert (resumed.lineage, resumed.final_weights) == (LINEAGE, FINAL)


class DiesBeforeTheCheckpoint(PopulationBasedTraining):
    """Its process is killed after the line of an exploit, and before the checkpoint."""

    def _inherit(self, member: Any, one: Any) -> None:
        raise Killed


def test_an_exploit_without_its_checkpoint_is_carried_out_after_a_resume(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Population(tmp_path, RATES, scheduler=DiesBeforeTheCheckpoint).run()
    assert len(read_lineage(tmp_path)) == 1
    resumed = Population(tmp_path, RATES).run()
    assert (resumed.lineage, resumed.final_weights) == (LINEAGE, FINAL)


def test_a_kill_between_two_renames_loses_no_checkpoint(tmp_path: Path) -> None:
    population = Population(tmp_path, RATES).run()
    folder = population.trial_folder(population.trials[0])
    (last,) = folder.glob(f"checkpoint_*{END}")
    last.rename(folder / f".{last.name}.own")
    restore_replaced(folder)
    found = newest_valid(folder)
    assert found is not None and found.env_steps == END


@pytest.mark.parametrize("replay", ["keep", "copy"])
def test_the_member_keeps_its_replay_buffer_or_copies_it(tmp_path: Path, replay: str) -> None:
    with pytest.raises(Killed):
        # Eight results until all wait; the next one is of a member that trains on.
        Population(tmp_path, RATES, kill_after=9, replay=replay).run()
    (found,) = [newest_valid(tmp_path / "rate=1.0")]
    assert found is not None and found.progress == {"exploits": 1}
    assert json.loads((found.path / "algorithm/weights.json").read_text()) == 8.0
    rows = "rows of rate=1.0" if replay == "keep" else "rows of rate=4.0"
    assert (found.path / "algorithm/replay/rows").read_text() == rows
    assert (found.path / "run_state.pkl").read_text() == rows


def test_failed_members_are_not_waited_for_and_members_without_a_score_are_left_alone(
    tmp_path: Path,
) -> None:
    population = Population(tmp_path, [*RATES, 16.0])
    population.trials[4].set_status(Trial.ERROR)
    reported = population.report
    population.report = lambda trial, score: reported(  # type: ignore[method-assign]
        trial, float("nan") if trial is population.trials[3] else score
    )
    population.run()
    # At 10: 2, 4, 6 without member 3: member 0 takes 2, and so on.
    assert population.lineage[0] == (10, 0, 2, 6.0)
    assert all(3 not in (member, source) for _, member, source, _ in population.lineage)
    assert population.weights[population.trials[3].trial_id] == END // ITERATION * 4.0


def test_the_lowest_score_is_copied_in_mode_min(tmp_path: Path) -> None:
    population = Population(tmp_path, RATES, objective=Objective("episode_return_mean", "min"))
    assert population.run().lineage[0] == (10, 3, 0, 2.0)


def test_equal_members_are_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    population = Population(tmp_path, [1.0, 1.5])
    reported = population.report
    population.report = lambda trial, score: reported(trial, 7.0)  # type: ignore[method-assign]
    assert population.run().lineage == []
    words = "PBT: at 10 env steps, no member is replaced: their scores are equal or missing.\n"
    assert words in capsys.readouterr().out


def test_comparisons_that_fall_into_one_iteration_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Population(tmp_path, RATES, boundaries=[2, 4, 5, 20]).run()
    assert "PBT: at 5 env steps, the comparisons at 2 to 5 are one" in capsys.readouterr().out


def test_a_member_that_died_and_is_tried_again_reaches_the_same_comparison(tmp_path: Path) -> None:
    population = Population(tmp_path, RATES, slots=1)
    trial = population.scheduler.choose_trial_to_run(population)
    assert trial is population.trials[0]
    population.start(trial)
    population.train(trial)
    # Tune gives a trial whose process died back to the scheduler, as pending.
    trial.set_status(Trial.PENDING)
    population.scheduler.on_trial_add(population, trial)
    assert trial.status == Trial.PENDING
    population.start(trial)
    assert population.run().lineage == LINEAGE


def test_a_checkpoint_from_before_the_exploit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Population(tmp_path, RATES, kill_after=17).run()
    folder = tmp_path / "rate=1.0"
    kept = folder / "checkpoint_000010"
    manifest = json.loads((kept / "rlssl_checkpoint.json").read_text())
    (kept / "rlssl_checkpoint.json").unlink()
    manifest["progress"]["exploits"] = 0
    (kept / "rlssl_checkpoint.json").write_text(json.dumps(manifest))
    for later in folder.glob("checkpoint_00002*"):
        later.rename(folder / f"away_{later.name}")
    population = Population(tmp_path, RATES)
    (folder / "checkpoint_000010").rename(folder / "gone")
    with pytest.raises(SpecError, match="continued from member 3 at 10 env steps, and that"):
        population.start(population.trials[0])


def test_damaged_scores_are_named_and_the_population_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Killed):
        Population(tmp_path, RATES, kill_after=12).run()
    (tmp_path / "scheduler.json").write_text('{"points": [{')
    with caplog.at_level(logging.WARNING):
        resumed = Population(tmp_path, RATES).run()
    assert "scheduler.json is damaged" in caplog.text
    assert resumed.lineage[0] == LINEAGE[0] and len(resumed.lineage) >= 3


def test_the_first_comparison_may_be_later(tmp_path: Path) -> None:
    boundaries = list(range(EVERY, END, EVERY))[1:]
    population = Population(tmp_path, RATES, boundaries=boundaries).run()
    assert population.lineage[0] == (20, 0, 3, 8.0)


def test_quantiles_take_as_many_of_the_worst_as_of_the_best() -> None:
    scores = {index: float(index) for index in range(5)}
    assert quantiles(scores, 0.4, 1.0) == ([0, 1], [3, 4])
    assert quantiles(scores, 0.5, -1.0) == ([4, 3], [1, 0])  # at most half, rounded down
    assert quantiles({0: 1.0}, 0.5, 1.0) == ([], [])


LISTS = Dimension("training.n_step", "choice", (1, 3, 5))


def explored(one: Dimension, value: Any, **changes: Any) -> set[Any]:
    arguments: dict[str, Any] = {
        "resample_probability": 0.0,
        "factors": [0.8, 1.2],
        "fits": lambda _: True,
    }
    explorer = Explorer([one], **{**arguments, **changes})
    rng = np.random.default_rng(0)
    return {explorer({one.path: value}, rng)[one.path] for _ in range(50)}


def test_small_changes_stay_in_the_search_space() -> None:
    assert explored(Dimension(RATE, "loguniform", (1e-4, 1e-2)), 9e-3) == {9e-3 * 0.8, 1e-2}
    assert explored(LISTS, 3) == {1, 5}
    assert explored(LISTS, 5) == {3}
    assert explored(Dimension(RATE, "randint", (1, 11)), 2) == {1, 3}  # 1.6 and 2.4 are both 2
    assert explored(Dimension(RATE, "qrandint", (8, 64, 8)), 16) == {8, 24}


def test_resampled_values_are_drawn_from_the_whole_space() -> None:
    assert explored(LISTS, 1, resample_probability=1.0) == {1, 3, 5}
    drawn = explored(Dimension(RATE, "uniform", (0, 1)), 0.5, resample_probability=1.0)
    assert len(drawn) == 50 and min(drawn) < 0.1 and max(drawn) > 0.8


def test_values_that_do_not_fit_together_are_not_given() -> None:
    assert explored(LISTS, 3, fits=lambda values: values["training.n_step"] < 3) == {1}
    assert explored(LISTS, 3, fits=lambda _: False) == {3}
