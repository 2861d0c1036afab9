"""DDPG, TD3 and SAC swing a pendulum up, each within minutes."""

import statistics

import pytest

from rlssl.experiment.spec import build_config, load_spec
from rlssl.policy import Policy, evaluate_policy

# Minutes each: a third of an hour on a busy machine is no failure.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEEDS = (0, 1, 2)


# Measured: see docs/sac.md and docs/ddpg.md. A random policy scores about -1,200.
@pytest.mark.parametrize(
    "algorithm",
    [{"algorithm": "ddpg"}, {"algorithm": "ddpg", "preset": "td3"}, {"algorithm": "sac"}],
    ids=lambda algorithm: algorithm.get("preset", algorithm["algorithm"]),
)
def test_pendulum_is_swung_up(algorithm: dict[str, str]) -> None:
    scores = sorted(score(algorithm, seed) for seed in SEEDS)
    assert scores[0] > -400 and scores[1] > -200, scores


def score(algorithm: dict[str, str], seed: int) -> float:
    """Mean return of 20 episodes without exploration, after 15,000 env steps."""
    env = {"id": "Pendulum-v1"}
    config = build_config(load_spec({**algorithm, "env": env, "seed": seed}))
    trained = config.build_algo()
    try:
        while trained.train()["env_steps"] < 15_000:
            pass
        policy = Policy.from_algorithm(trained)
    finally:
        trained.stop()
    records = evaluate_policy(policy, env, seeds=range(1000, 1020), explore=False)
    return statistics.fmean(record.score for record in records)
