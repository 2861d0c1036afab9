"""Whole runs on a data set: alone or beside own steps, resumed bit for bit, on the right clock."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlssl.algorithms.off_policy import algorithm
from rlssl.algorithms.pretrain.pretrain import PretrainConfig
from rlssl.experiment.checkpoints import checkpoint
from tests.algorithms.iql.iql_bench import small_iql
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small_ddpg, small_sac
from tests.algorithms.off_policy.actor_critic.test_actor_critic_resume import state_of
from tests.algorithms.rainbow.rainbow_bench import small_rainbow
from tests.auxiliary.imitation.recorded import record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]

SMALL: dict[str, Any] = {
    "rainbow": small_rainbow,
    "sac": small_sac,
    "ddpg": small_ddpg,
    "iql": small_iql,
}
MIXED: dict[str, Any] = {"mix": 0.5}
ALONE: dict[str, Any] = {"offline": True}
#: Name -> algorithm, keys of data, settings of training.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    f"{name} {words}": (name, data, {})
    for name in SMALL
    for words, data in (("mixed", MIXED), ("alone", ALONE))
}
CASES["rainbow drawn ahead"] = ("rainbow", MIXED, {"replay": {"prefetch": 2}})
CASES["pretrain"] = ("pretrain", {"holdout": 0.2}, {})
IN_CI = ("rainbow mixed", "sac alone")


def config_of(case: str, folder: Path) -> Any:
    name, data, training = CASES[case]
    env = "CartPole-v1" if name in ("rainbow", "pretrain") else "Pendulum-v1"
    path = folder / "data"
    if not path.exists():
        record(path, {"id": env}, [None] * 5, most=60)
    if name == "pretrain":
        config: Any = PretrainConfig().training(train_batch_size_per_learner=32, target_tau=0.1)
        config.model(encoder_config={"hidden": [16]}).debugging(seed=0)
        config.auxiliary(moco={"queue_size": 100}, spr={}).evaluation(every_updates=40)
        return config.data(path=str(path), **data)
    steps = {"agent_steps_per_iteration": 60, "replay_capacity": 150, **training}
    config = SMALL[name](env, **steps).auxiliary(spr={"steps": 3})
    return config.data(path=str(path), **data)


def built(config: Any) -> Any:
    return config.algo_class(config=config.copy())


def numbers_of(result: dict[str, Any]) -> dict[str, Any]:
    """What a result says of the clock and of the losses."""
    found = {key: result.get(key) for key in ("env_steps", "updates", "replay", "holdout")}
    learned = result["learners"]["default_policy"]
    return {**found, "aux": learned["aux"], "td_errors": learned.get("td_error_mean")}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.ci] if case in IN_CI else []) for case in CASES],
)
def test_resumed_run_equals_the_uninterrupted_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a run on a data set alone; the Learner is in this process.
    monkeypatch.setattr(algorithm, "UPDATES_PER_ITERATION", 30)
    config = config_of(case, tmp_path)
    first = built(config)
    for _ in range(2):
        saved = first.train()
    is_alone = config.clock == "updates"
    assert ("env_steps" in saved) != is_alone
    assert saved["updates"] > 0 and saved["training_iteration"] == 2
    checkpoint.save(first, tmp_path / "saved", env_steps=int(saved[config.clock]))
    kept = tmp_path / "saved" / "algorithm" / "replay"
    assert kept.is_dir() != is_alone  # a data set is not copied
    before = state_of(first)
    expected, weights = [numbers_of(first.train()) for _ in range(2)], state_of(first)
    first.stop()
    assert any(not np.array_equal(before[key], weights[key]) for key in before)

    second = built(config)
    assert checkpoint.restore(second, checkpoint.check(tmp_path / "saved")) == 0
    actual, again = [numbers_of(second.train()) for _ in range(2)], state_of(second)
    second.stop()
    np.testing.assert_equal(actual, expected)
    assert weights.keys() == again.keys()
    assert [key for key in weights if not np.array_equal(weights[key], again[key])] == []
