"""SAC from the state, and SAC with CURL and DrQ-v2 from small frames, swing a cart's pole up."""

import statistics
from typing import Any

import pytest

from rlssl.experiment.spec import build_config, load_spec
from rlssl.policy import Policy, evaluate_policy

# Minutes each: an hour on a busy machine is no failure.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FRAMES = {"id": "dmc-pixels/cartpole-swingup", "size": 42}


# Measured: see docs/sac.md.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_state_suffices_within_100_000_env_steps(seed: int) -> None:
    document = {"algorithm": "sac", "env": "dmc/cartpole-swingup"}
    assert score(document, seed, env_steps=100_000) > 700


def score(document: dict[str, Any], seed: int, *, env_steps: int) -> float:
    """Mean return of 10 episodes without exploration at the end."""
    config = build_config(load_spec({**document, "seed": seed}))
    trained = config.build_algo()
    try:
        while trained.train()["env_steps"] < env_steps:
            pass
        policy = Policy.from_algorithm(trained)
    finally:
        trained.stop()
    env = config.env_settings
    records = evaluate_policy(policy, env, seeds=range(1000, 1010), explore=False)
    return statistics.fmean(record.score for record in records)
