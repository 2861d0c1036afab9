"""Population-based training over what cannot change in a run is refused before the start."""

from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec

SPEC: dict[str, Any] = {
    "algorithm": "sac",
    "env": "Pendulum-v1",
    "search": {"training.lr": {"loguniform": [1e-4, 1e-2]}},
    "searcher": {"random": {"num_samples": 4}},
    "scheduler": {"pbt": {"every_env_steps": 100}},
    "stop": {"env_steps": 1000},
}


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as error:
        load_spec({**SPEC, **changes})
    return str(error.value)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("training.replay_capacity", [1000, 2000]),
        ("training.critic_hidden", [[16], [32]]),
        ("training.learning_starts_agent_steps", [100, 200]),
        ("training.updates_per_agent_step", [0.5, 1.0]),
        ("training.initial_alpha", [0.1, 1.0]),
        ("model.encoder_config", [{"hidden": [16]}, {"hidden": [32]}]),
        ("env_runners.num_envs", [1, 2]),
        ("env.id", ["Pendulum-v1", "MountainCarContinuous-v0"]),
        ("algorithm", ["sac", "ddpg"]),
        ("auxiliary", [{}, {"icm": {}}]),
    ],
)
def test_what_cannot_change_in_a_run_is_named(path: str, values: list[Any]) -> None:
    words = refusal(search={path: {"grid": values}}, searcher=None)
    assert words.startswith(f"search.{path}: scheduler.pbt changes searched values in a run, and ")
    assert "cannot change in a run" in words and "give it one value" in words


def test_the_settings_that_can_change_are_listed() -> None:
    words = refusal(search={"training.replay_capacity": {"grid": [1000, 2000]}}, searcher=None)
    assert "training.... can be one of: gamma" in words and "alpha_lr" in words
    losses: dict[str, Any] = {"auxiliary": {"icm": {}}}
    words = refusal(search={"auxiliary.icm.hidden": {"grid": [16, 32]}}, searcher=None, **losses)
    assert (
        "auxiliary.icm.... can be one of: coeff, intrinsic_coeff, lr, schedule, grad_clip" in words
    )


def test_seeds_are_not_searched_and_a_member_has_one() -> None:
    assert "list the seeds under 'seeds'" in refusal(search={"seed": {"grid": [1, 2]}})
    assert refusal(seeds=[3, 4]) == (
        "scheduler.pbt: a point is one member, and trains with one seed; got seeds: [3, 4]. Use "
        "seeds: [3], and more points: searcher: {random: {num_samples: 8}}."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"searcher": {"optuna": {"num_samples": 4}}}, "instead of a study"),
        ({"searcher": {"random": {"num_samples": 1}}}, "needs at least two members"),
        ({"confirm": {"seeds": [7]}}, "remove confirm"),
        ({"checkpoint": {"replay_buffer": False}}, "checkpoint.replay_buffer: false loses"),
        ({"reuse_processes": True}, "reuse_processes: true: with scheduler.pbt"),
        ({"storage": "s3://bucket/runs"}, "read each other's checkpoints in one folder"),
        ({"scheduler": {"pbt": {"every_env_steps": 1000}}}, "must be less than 1000, the end"),
        (
            {"scheduler": {"pbt": {"every_env_steps": 10, "start_env_steps": 2000}}},
            "scheduler.pbt.start_env_steps must be less than 1000, the end of a trial; got 2000.",
        ),
        ({"search": {}, "searcher": None}, "scheduler needs a search"),
    ],
)
def test_what_does_not_fit_a_population_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(**changes)


def test_schedules_and_coefficients_of_losses_can_change() -> None:
    search = {
        "training.lr": {"choice": [1e-3, [[0, 1e-3], [1000, 1e-4]]]},
        "auxiliary.icm.coeff": {"uniform": [0.1, 1.0]},
        "training.target_entropy": {"uniform": [-2.0, 0.0]},
    }
    load_spec({**SPEC, "search": search, "auxiliary": {"icm": {}}})
