"""A run that is saved and resumed equals the uninterrupted run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tree

from rlssl.algorithms.rainbow.rainbow import Rainbow, RainbowConfig
from rlssl.experiment.checkpoints import checkpoint
from tests.algorithms.rainbow.rainbow_bench import small_rainbow
from tests.replay.episodes import assert_same_batch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]


def config_of(case: dict[str, Any]) -> RainbowConfig:
    case = dict(case)
    training = {
        "agent_steps_per_iteration": 120,
        "target_update_every_updates": 7,
        # The ring buffer wraps around before the run ends.
        "replay_capacity": 300,
        "lr": [[0, 1e-3], [2000, 0.0]],
        **case.pop("training", {}),
    }
    return (
        small_rainbow(case.pop("env", "CartPole-v1"), **training)
        .auxiliary(**case.pop("auxiliary", {}))
        .model(**case.pop("model", {}))
        .env_runners(**case)
    )


def built(case: dict[str, Any]) -> Rainbow:
    config = config_of(case)
    algorithm: Rainbow = config.algo_class(config=config)
    return algorithm


def state_of(algorithm: Rainbow) -> dict[str, Any]:
    learner = algorithm.learner_group.get_state()["learner"]
    kept = {"module": learner["rl_module"], "optimizer": learner["optimizer"]}
    return {"/".join(map(str, path)): value for path, value in tree.flatten_with_path(kept)}


def metrics_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("env_steps", "updates", "epsilon", "episode_return_mean", "intrinsic_return_mean")
    more = ("episodes", "faults")
    learned = ("loss", "q_mean", "td_error_mean", "default_optimizer_learning_rate")
    return [
        {key: row[key] for key in (*keys, *more)}
        | dict(row["replay"])
        | {key: row["learners"]["default_policy"].get(key) for key in learned}
        for row in results
    ]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({}, id="plain"),
        pytest.param({"training": {"noise_redraw": "episode"}}, id="noise per episode"),
        pytest.param(
            {
                "training": {"noisy": False, "epsilon": 0.3, "replay": {"prioritized": False}},
                "model": {"frame_stack": 3},
            },
            id="epsilon, uniform, frame stack",
        ),
        pytest.param(
            {
                "env": "goals/bit-flipping",
                "training": {"relabel": {}, "n_step": 3},
                "model": {"encoder_config": {"hidden": 16}, "normalize_observations": True},
            },
            id="hindsight",
        ),
        pytest.param({"auxiliary": {"icm": {"variant": "burda"}, "curl": {}}}, id="ICM and CURL"),
        pytest.param({"training": {"replay": {"prefetch": 2}}}, id="drawn ahead"),
        pytest.param(
            {"num_env_runners": 1, "training": {"overlap_sampling": False}}, id="remote runner"
        ),
        pytest.param({"num_env_runners": 2}, id="sampling during updates"),
    ],
)
def test_resumed_run_equals_the_uninterrupted_run(case: dict[str, Any], tmp_path: Path) -> None:
    first = built(case)
    for _ in range(2):
        saved = first.train()
    checkpoint.save(first, tmp_path, env_steps=int(saved["env_steps"]))
    assert (tmp_path / "algorithm" / "replay").is_dir()
    expected = metrics_of([first.train() for _ in range(2)])
    weights, batch = state_of(first), first.replay.sample(64, n_step=3, beta=0.5)
    first.stop()

    second = built(case)
    assert checkpoint.restore(second, checkpoint.check(tmp_path)) == 0
    actual = metrics_of([second.train() for _ in range(2)])
    again, batch_again = state_of(second), second.replay.sample(64, n_step=3, beta=0.5)
    second.stop()

    np.testing.assert_equal(actual, expected)
    assert weights.keys() == again.keys()
    assert [key for key in weights if not np.array_equal(weights[key], again[key])] == []
    assert_same_batch(batch, batch_again)


def test_saving_does_not_change_the_rest_of_the_run(tmp_path: Path) -> None:
    rows = []
    for saves in (False, True):
        algorithm = built({})
        algorithm.train()
        if saves:
            checkpoint.save(algorithm, tmp_path, env_steps=100)
        rows.append(metrics_of([algorithm.train()]))
        algorithm.stop()
    np.testing.assert_equal(rows[1], rows[0])
