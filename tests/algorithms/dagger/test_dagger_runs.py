"""Whole runs of behavior cloning and DAgger: resumed runs equal uninterrupted ones."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.data import DatasetWriter, Description
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints import checkpoint
from tests.algorithms.bc.bc_bench import random_data, small_bc
from tests.algorithms.dagger.dagger_bench import small_dagger
from tests.algorithms.off_policy.actor_critic.test_actor_critic_resume import state_of
from tests.data.recorded import random_episode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]

VECTORS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
LSTM = {"encoder_config": {"hidden": [16]}, "lstm": {"hidden": 4, "sequence_length": 6}}


CASES: dict[str, Any] = {
    "bc": lambda folder: small_bc(random_data(folder, VECTORS, gym.spaces.Discrete(3))),
    "bc lstm": lambda folder: small_bc(
        random_data(folder, VECTORS, gym.spaces.Discrete(3)), model=LSTM
    ).auxiliary(inverse_dynamics={}),
    "dagger": lambda folder: small_dagger(),
    "dagger samples": lambda folder: small_dagger(explore=True, beta_rounds=3),
}


def found_in(algorithm: Any) -> list[Any]:
    results = [algorithm.train() for _ in range(2)]
    learned = ("policy_loss", "nll", "entropy")
    return [
        (row["updates"], row.get("dagger"), [row["learners"]["default_policy"][k] for k in learned])
        for row in results
    ]


@pytest.mark.parametrize("case", CASES)
def test_resumed_run_equals_the_uninterrupted_run(case: str, tmp_path: Path) -> None:
    config = CASES[case](tmp_path / "data")
    first = config.algo_class(config=config.copy())
    for _ in range(2):
        saved = first.train()
    checkpoint.save(first, tmp_path / "saved", env_steps=int(saved["updates"]))
    expected, weights = found_in(first), state_of(first)
    first.stop()
    second = config.algo_class(config=config.copy())
    assert checkpoint.restore(second, checkpoint.check(tmp_path / "saved")) == 0
    actual, again = found_in(second), state_of(second)
    second.stop()
    np.testing.assert_equal(actual, expected)
    assert [key for key in weights if not np.array_equal(weights[key], again[key])] == []


def test_rounds_are_played_when_due_and_their_steps_are_counted() -> None:
    config = small_dagger(rounds=3)
    algorithm = config.algo_class(config=config)
    rows = [algorithm.train() for _ in range(5)]
    assert [row["updates"] for row in rows] == [20, 40, 60, 80, 100]
    assert [row["dagger"]["rounds"] for row in rows] == [1, 2, 3, 3, 3]
    assert [row["dagger"]["env_steps"] for row in rows] == [40, 80, 120, 120, 120]
    assert [row["dagger"]["beta"] for row in rows] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert [row["replay"]["size"] for row in rows] == [40, 80, 120, 120, 120]
    # Actions of the replay buffer are in the module's units: torques of [-2, 2] over 2.
    stored = algorithm.replay.sample(120)["actions"]
    assert 0.9 < np.abs(stored).max() <= 1.0
    algorithm.stop()


def test_held_out_episodes_are_measured_and_not_trained_on(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    spaces = gym.spaces.Box(-1.0, 1.0, (4,), np.float32), env.action_space
    episodes = [random_episode(*spaces, 30, seed=seed) for seed in range(10)]
    with DatasetWriter(tmp_path, Description(env.observation_space, env.action_space)) as writer:
        for episode in episodes:
            writer.add(episode)
    model = {"encoder_config": {"hidden": [64, 64]}}
    config = small_bc(tmp_path, holdout=0.2, lr=1e-2, model=model, train_batch_size_per_learner=64)
    config = config.environment("CartPole-v1").evaluation(every_updates=1000, episodes=1)
    config = config.auxiliary(inverse_dynamics={"coeff": 0.5})
    algorithm = config.algo_class(config=config)
    rows = [algorithm.train() for _ in range(5)]
    algorithm.stop()
    assert [("holdout" in row) for row in rows] == [False] * 4 + [True]
    # Random actions of the 8 episodes are remembered, those of the 2 held-out ones are not known:
    # log 2 is 0.69.
    assert rows[-1]["replay"]["size"] == 240
    assert rows[-1]["learners"]["default_policy"]["nll"] < 0.6
    found = rows[-1]["holdout"]
    assert found["nll"] > 0.75
    assert 0.3 < found["accuracy"] < 0.7
    auxiliary = 0.5 * found["inverse_dynamics"]["inverse"]
    assert found["loss"] == pytest.approx(found["nll"] + auxiliary)


def test_losses_that_read_actions_are_refused() -> None:
    config = small_dagger().auxiliary(inverse_dynamics={})
    with pytest.raises(SpecError, match="the expert's answers"):
        config.algo_class(config=config)
