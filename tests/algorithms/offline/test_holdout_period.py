"""Held-out episodes are measured without more settings, and without an environment."""

from pathlib import Path
from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.schema import Spec
from tests.algorithms.offline.episodes import write_episodes

#: Further keys with which each algorithm has a loss to measure.
CASES: dict[str, dict[str, Any]] = {
    "bc": {},
    "pretrain": {"auxiliary": {"inverse_dynamics": {}}},
    "rainbow": {"auxiliary": {"inverse_dynamics": {}}, "data": {"offline": True}},
}


def spec_of(name: str, folder: Path, **sections: Any) -> Spec:
    """Of 40 updates on episodes of an environment that is not installed."""
    case = CASES[name]
    data = {"path": write_episodes(folder), "holdout": 0.2, **case.get("data", {})}
    training = {"train_batch_size_per_learner": 8}
    document = {"algorithm": name, "training": training, **case, "data": data}
    return load_spec({**document, "stop": {"updates": 40}, **sections})


@pytest.mark.parametrize("name", CASES)
def test_the_period_is_a_tenth_of_the_run_and_nothing_is_played(name: str, tmp_path: Path) -> None:
    spec = spec_of(name, tmp_path)
    assert (spec.evaluation_period, spec.evaluation_episodes) == (4, 0)
    config = build_config(spec)
    assert config.evaluation_period == 4
    assert not config.needs_environment


def test_a_mixed_run_counts_its_period_in_env_steps(tmp_path: Path) -> None:
    data = {"path": write_episodes(tmp_path), "holdout": 0.2}
    sections = {"data": data, "env": "CartPole-v1", "stop": {"env_steps": 900}}
    spec = load_spec({"algorithm": "rainbow", "auxiliary": {"curl": {}}, **sections})
    assert (spec.evaluation_period, build_config(spec).evaluation_period) == (90, 90)


def test_a_given_period_without_episodes_needs_no_environment(tmp_path: Path) -> None:
    period = {"every_updates": 7}
    with pytest.raises(SpecError, match="no/such-environment"):
        spec_of("bc", tmp_path / "played", evaluation=period)
    spec = spec_of("bc", tmp_path / "measured", evaluation={**period, "episodes": 0})
    config = build_config(spec)
    assert (config.evaluation_period, config.evaluation_episodes) == (7, 0)
    assert not config.needs_environment


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_a_clone_is_measured_where_nothing_can_be_played(tmp_path: Path) -> None:
    config = build_config(spec_of("bc", tmp_path))
    algorithm = config.algo_class(config=config)
    rows = [algorithm.train() for _ in range(3)]
    algorithm.stop()
    assert [row["updates"] for row in rows] == [4, 8, 12]
    assert [row["holdout"]["updates"] for row in rows] == [4, 8, 12]
    # The steps of two of the episodes, with two actions: about log 2 at first.
    assert 0.0 < rows[0]["holdout"]["nll"] < 5.0
    assert not any("evaluation" in row for row in rows)


def test_an_objective_that_must_be_played_is_refused(tmp_path: Path) -> None:
    objective = {"metric": "evaluation/episode_return_mean"}
    with pytest.raises(SpecError, match=r"needs evaluations; set evaluation.every_updates.$"):
        spec_of("bc", tmp_path / "a", objective=objective)
    nothing = {"every_updates": 4, "episodes": 0}
    with pytest.raises(SpecError, match=r"and evaluation.episodes to 1 or more"):
        spec_of("bc", tmp_path / "b", objective=objective, evaluation=nothing)
    spec_of("bc", tmp_path / "c", objective={"metric": "holdout/nll", "mode": "min"})


def test_diagnostics_need_episodes_of_a_policy_or_of_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"diagnostics ranks: they use the episodes of evaluations"):
        spec_of("bc", tmp_path / "a", diagnostics=["ranks"])
    data = {"path": str(tmp_path / "b")}
    for number, further in enumerate(({}, {"data": data})):  # with and without held-out episodes
        spec = spec_of("pretrain", tmp_path / "bc"[number], diagnostics=["ranks"], **further)
        config = build_config(spec)
        assert spec.evaluation_period == config.evaluation_period == 4
        assert (config.evaluation_episodes, config.data_holdout) == (10, [0.2, 0.0][number])


def test_an_evaluation_of_no_episode_measures_nothing_without_holdout() -> None:
    with pytest.raises(SpecError, match=r"evaluation.episodes: 0: .* or set data.holdout"):
        load_spec({"algorithm": "ppo", "env": "CartPole-v1", "evaluation": {"episodes": 0}})
