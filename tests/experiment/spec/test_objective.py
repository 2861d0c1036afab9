"""The objective of a spec: checked before the start, the same for the whole search."""

from typing import Any

import pytest

from rlssl.analysis.objective import Objective
from rlssl.experiment.spec.loading import at_point, load_spec
from rlssl.experiment.spec.search_checks import objective_of
from tests.experiment.spec.specs import BASE, refused

SEARCH: dict[str, Any] = {
    "search": {"training.lr": {"grid": [0.1, 0.2]}},
    "stop": {"env_steps": 2000},
}


def test_objective_of_the_section_reaches_the_trial() -> None:
    given = {"metric": "evaluation/episode_return_mean", "mode": "min", "last": 3}
    spec = load_spec({**BASE, **SEARCH, "objective": given, "evaluation": {"every_env_steps": 500}})
    assert objective_of(spec) == Objective("evaluation/episode_return_mean", "min", 3)
    trial = at_point(spec, {"training.lr": 0.1}, 0)
    assert objective_of(trial) == objective_of(spec)
    assert objective_of(load_spec(BASE)) == Objective("episode_return_mean", "max", 1)


def test_keys_of_the_scheduler_still_give_the_objective() -> None:
    asha = {"grace_env_steps": 500, "metric": "success_rate", "mode": "min"}
    spec = load_spec({**BASE, **SEARCH, "scheduler": {"asha": asha}})
    assert objective_of(spec) == Objective("success_rate", "min")
    # A trial has no scheduler, but reports the objective.
    assert objective_of(at_point(spec, {"training.lr": 0.1}, 0)) == objective_of(spec)


@pytest.mark.parametrize(
    "metric",
    ["area", "learners/default_policy/entropy", "aux/icm/forward_loss", "env_runners/sample"],
)
def test_any_key_of_a_result_can_be_the_objective(metric: str) -> None:
    spec = load_spec({**BASE, "auxiliary": {"icm": {}}, "objective": {"metric": metric}})
    assert objective_of(spec).metric == metric


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            {"metric": "evaluation/episode_return_mean"},
            "objective.metric 'evaluation/episode_return_mean' needs evaluations; set "
            "evaluation.every_env_steps.",
        ),
        (
            {"metric": "episode_returns_mean"},
            "unknown objective.metric 'episode_returns_mean'; did you mean 'episode_return_mean'?",
        ),
        ({"metric": "aux/icm/loss"}, "objective.metric 'aux/icm/loss': the spec has no loss 'icm'"),
        ({"metric": "learners/"}, "unknown objective.metric 'learners/'"),
        ({"mode": "best"}, "objective.mode must be 'max' or 'min'; got 'best'."),
        ({"last": 0}, "objective.last must be > 0; got 0."),
        ({"metric": "area", "last": 5}, "objective.last is not for the area, which is over all"),
        ({"metrc": "area"}, "unknown key 'objective.metrc' in the spec; did you mean 'objective.m"),
    ],
)
def test_objective_that_cannot_work_is_refused(objective: Any, message: str) -> None:
    assert refused({"objective": objective}).startswith(message)


def test_metrics_of_evaluations_are_known() -> None:
    document = {
        "objective": {"metric": "evaluation/episode_returns_mean"},
        "evaluation": {"every_env_steps": 100},
    }
    assert "did you mean 'evaluation/episode_return_mean'?" in refused(document)


def test_a_search_has_one_objective() -> None:
    asha = {"grace_env_steps": 500, "metric": "success_rate"}
    document = {**SEARCH, "scheduler": {"asha": asha}, "objective": {"metric": "area"}}
    assert refused(document) == (
        "scheduler.asha.metric is 'success_rate', but objective.metric is 'area'; the whole search "
        "has one objective: remove scheduler.asha.metric."
    )
