"""Whole runs of SAC and DDPG: resumed runs equal uninterrupted ones; remote runners; policies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tree

from rlssl.evaluation import evaluate_policy
from rlssl.experiment.checkpoints import checkpoint
from rlssl.policy import Policy
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    CROPPED,
    on_pixels,
    small_ddpg,
    small_sac,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]


def sac(**training: Any) -> Any:
    return small_sac(agent_steps_per_iteration=60, replay_capacity=150, **training)


def ddpg(**training: Any) -> Any:
    return small_ddpg(agent_steps_per_iteration=60, replay_capacity=150, **training)


def pixels() -> Any:
    config = small_sac("test/dot", agent_steps_per_iteration=60, auxiliary_step="separate")
    return on_pixels(config, augmentation=CROPPED).auxiliary(curl={})


CASES: dict[str, Any] = {
    "sac": lambda: sac(random_agent_steps=80),
    "sac and icm": lambda: sac().auxiliary(icm={}),
    "curl": pixels,
    "td3": lambda: ddpg(
        num_critics=2,
        target_noise_std=0.2,
        actor_update_every_updates=2,
        target_update_every_updates=3,
        exploration_std=[[0, 1.0], [200, 0.0]],
    ),
    "walk": lambda: ddpg(exploration="ornstein_uhlenbeck"),
    "remote runner": lambda: sac().env_runners(num_env_runners=1),
}


def built(case: str) -> Any:
    config = CASES[case]()
    return config.algo_class(config=config)


def state_of(algorithm: Any) -> dict[str, Any]:
    learner = algorithm.learner_group.get_state()["learner"]
    kept = {"module": learner["rl_module"], "optimizer": learner["optimizer"]}
    return {"/".join(map(str, path)): value for path, value in tree.flatten_with_path(kept)}


def metrics_of(algorithm: Any) -> list[dict[str, Any]]:
    results = [algorithm.train() for _ in range(2)]
    learned = ("critic_loss", "actor_loss", "q_mean", "td_error_mean", "alpha")
    return [
        {key: row[key] for key in ("env_steps", "updates", "episode_return_mean")}
        | {key: row["learners"]["default_policy"].get(key) for key in learned}
        for row in results
    ]


@pytest.mark.parametrize("case", CASES)
def test_resumed_run_equals_the_uninterrupted_run(case: str, tmp_path: Path) -> None:
    first = built(case)
    for _ in range(2):
        saved = first.train()
    assert saved["updates"] > 0
    checkpoint.save(first, tmp_path, env_steps=int(saved["env_steps"]))
    expected = metrics_of(first)
    weights = state_of(first)
    first.stop()
    second = built(case)
    assert checkpoint.restore(second, checkpoint.check(tmp_path)) == 0
    actual = metrics_of(second)
    again = state_of(second)
    policy = Policy.from_algorithm(second)
    second.stop()
    np.testing.assert_equal(actual, expected)
    assert weights.keys() == again.keys()
    assert [key for key in weights if not np.array_equal(weights[key], again[key])] == []
    env = policy.settings["env"]
    records = evaluate_policy(policy, env, seeds=[0], explore=False, max_steps=20)
    loaded = Policy.load(policy.save(tmp_path / "policy"))
    again_records = evaluate_policy(loaded, env, seeds=[0], explore=False, max_steps=20)
    assert records == again_records or np.isnan(records[0].success)
    assert records[0].score == again_records[0].score
