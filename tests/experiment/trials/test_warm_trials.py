"""A trial in the process of an earlier trial equals the one in a new process, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("own_ray"),
]

REPOSITORY = Path(__file__).parents[3]

_REPLAY = {
    "learning_starts_agent_steps": 32,
    "replay_capacity": 1_000,
    "agent_steps_per_iteration": 100,
    "train_batch_size_per_learner": 16,
}
_BATCH = {"train_batch_size_per_learner": 256, "num_epochs": 2}


def document(algorithm: str, env: str, training: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "env": {"id": env},
        "training": training,
        "stop": {"env_steps": 300},
        "report_every_s": 0,
        **others,
    }


#: One trial of every algorithm, with other settings, environments and losses.
DOCUMENTS = [
    document("ppo", "CartPole-v1", _BATCH),
    document("sac", "Pendulum-v1", _REPLAY, auxiliary={"icm": {}}),
    document("rainbow", "CartPole-v1", _REPLAY, auxiliary={"curl": {}}, seed=5),
    document("ddpg", "Pendulum-v1", _REPLAY, model={"encoder_config": {"hidden": [16]}}),
    document("a3c", "CartPole-v1", {"agent_steps_per_iteration": 200}),
    document("ppo", "Pendulum-v1", _BATCH, auxiliary={"deepmdp": {}}, resources={"env_runners": 1}),
]


def records(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What trials do that run one after the other in one new process."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "tests.experiment.trials.trial_records", address]
    done = subprocess.run(
        [*command, json.dumps(documents)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.rpartition("RECORDS")[2])
    return found


def test_records_are_the_same_cold_and_warm() -> None:
    # The first trial comes back at the end: everything has run before it.
    warm = records([*DOCUMENTS, DOCUMENTS[0]])
    for one, other in zip([*DOCUMENTS[1:], DOCUMENTS[0]], warm[1:], strict=True):
        (cold,) = records([one])
        for part in ("attributes", "rows", "learner", "actions", "generators"):
            assert other[part] == cold[part], (one["algorithm"], part)


def test_a_warm_trial_begins_at_once_and_leaves_no_memory_behind() -> None:
    # A replay buffer of 40,000 stacks of vectors is 5 MB; the last 15 trials may leave 1 MB each.
    training = {**_REPLAY, "replay_capacity": 40_000}
    found = records([document("sac", "Pendulum-v1", training, seed=seed) for seed in range(20)])
    assert max(one["built_s"] for one in found[1:]) < 1.0
    assert found[-1]["rss"] - found[4]["rss"] < 15e6
