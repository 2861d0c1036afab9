"""A run continued from a checkpoint equals the uninterrupted run, bit for bit."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tree

from rlssl import PPOConfig
from rlssl.experiment.checkpoints import checkpoint
from rlssl.rollouts.stock_env_runner import StockEnvRunner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("own_ray"),
]

#: Parts of the names of metrics that depend on the clock or the machine.
CLOCKS = (
    *("time", "throughput", "perf", "date", "duration", "pid", "since_restore", "sample/"),
    *("synch_", "restore_env_runners", "config/"),
)


def config_of(env: str, **settings: Any) -> PPOConfig:
    return (
        PPOConfig()
        .environment(env)
        .model(**settings.pop("model", {}))
        .auxiliary(**settings.pop("auxiliary", {}))
        .vectorization(settings.pop("vectorize", "native"))
        .training(
            train_batch_size_per_learner=200,
            minibatch_size=64,
            num_epochs=2,
            lr=[[0, 1e-3], [2000, 0.0]],
            **settings.pop("training", {}),
        )
        .env_runners(num_envs_per_env_runner=3, **settings)
        .debugging(seed=7)
    )


def comparable(algorithm: Any, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Weights, optimizers and metrics by path, without metrics that depend on the clock."""
    learner = algorithm.learner_group.get_state()["learner"]
    kept = {"module": learner["rl_module"], "optimizer": learner["optimizer"], "results": results}
    flat = tree.flatten_with_path(kept)
    named = {"/".join(map(str, path)) + "/": value for path, value in flat}
    return {key: value for key, value in named.items() if not any(c in key for c in CLOCKS)}


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    different = [key for key in expected if not is_same(actual[key], expected[key])]
    assert different == []


def is_same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    is_float = one.dtype.kind == "f"
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=is_float)


def train(algorithm: Any, iterations: int) -> list[dict[str, Any]]:
    return [algorithm.train() for _ in range(iterations)]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"env": "CartPole-v1"}, id="plain"),
        pytest.param(
            {
                "env": "CartPole-v1",
                "auxiliary": {"icm": {"variant": "burda"}},
                "model": {"frame_stack": 3},
            },
            id="running return and observation statistics, frame stack",
        ),
        pytest.param(
            {
                "env": "Pendulum-v1",
                "auxiliary": {"icm": {"variant": "pathak"}},
                "training": {"variant": "both"},
            },
            id="intrinsic reward, adaptive KL",
        ),
        pytest.param(
            {"env": "minatar/Breakout", "auxiliary": {"curl": {}}}, id="augmentation, EMA copy"
        ),
        pytest.param({"env": "MiniGrid-Empty-5x5-v0", "model": {"frame_stack": 2}}, id="MiniGrid"),
        pytest.param({"env": "CartPole-v1", "num_env_runners": 1}, id="remote runner"),
        pytest.param(
            {"env": "CartPole-v1", "num_env_runners": 2, "training": {"overlap_sampling": True}},
            id="sampling during the update",
        ),
        pytest.param({"env": "CartPole-v1", "stock": True}, id="RLlib's own sampling loop"),
    ],
)
def test_continued_run_equals_the_uninterrupted_run(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = dict(settings)
    stock = settings.pop("stock", False)

    def build() -> Any:
        config = config_of(**settings)
        if stock:
            config.env_runners(env_runner_cls=StockEnvRunner)
        return config.algo_class(config=config)

    whole = build()
    results = train(whole, 4)
    expected = comparable(whole, results[2:])
    whole.stop()

    first = build()
    train(first, 2)
    checkpoint.save(first, tmp_path, env_steps=int(results[1]["env_steps"]))
    first.stop()

    second = build()
    assert checkpoint.restore(second, checkpoint.check(tmp_path)) == 0
    assert_equal(comparable(second, train(second, 2)), expected)
    second.stop()


def test_saving_does_not_change_how_the_run_continues(tmp_path: Path) -> None:
    states = []
    for saves in (False, True):
        algorithm = config_of("CartPole-v1").build_algo()
        results = train(algorithm, 1)
        if saves:
            checkpoint.save(algorithm, tmp_path, env_steps=200)
        results += train(algorithm, 1)
        states.append(comparable(algorithm, results))
        algorithm.stop()
    assert_equal(states[1], states[0])


def test_open_episodes_that_cannot_be_saved_are_counted_and_the_run_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = config_of("CartPole-v1", vectorize="async").build_algo()
    before = train(first, 2)[-1]
    checkpoint.save(first, tmp_path, env_steps=int(before["env_steps"]))
    first.stop()
    second = config_of("CartPole-v1", vectorize="async").build_algo()
    abandoned = checkpoint.restore(second, checkpoint.check(tmp_path))
    # Three environments, each in mid-episode unless its episode ended with the fragment.
    assert 1 <= abandoned <= 3
    assert f"{abandoned} open episodes are dropped" in caplog.text
    after = train(second, 1)[0]
    assert after["training_iteration"] == before["training_iteration"] + 1
    assert after["env_steps"] >= before["env_steps"] + 200
    name = "default_optimizer_learning_rate"
    lr = after["learners"]["default_policy"][name]
    assert math.isclose(lr, 1e-3 * (1 - after["env_steps"] / 2000), rel_tol=1e-3)
    second.stop()
