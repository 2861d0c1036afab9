"""Trains until a score is reached, or until the env steps are used up."""

import statistics
from collections.abc import Mapping
from typing import Any

from rlssl.evaluation import evaluate_policy
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.policy import Policy


def best_return(config: Any, *, env_steps: int, enough: float) -> float:
    """The best mean of 20 episodes within the env steps; stops early when it is ``enough``."""
    algorithm = config.build_algo()
    best = 0.0
    try:
        result = algorithm.train()
        while result["env_steps"] < env_steps and best < enough:
            result = algorithm.train()
            best = max(best, result["episode_return_mean"])
    finally:
        algorithm.stop()
    return best


def final_score(document: Mapping[str, Any], seed: int, *, env_steps: int, episodes: int) -> float:
    """Mean return of evaluation episodes without exploration, after training for env steps."""
    records = _final_records(document, seed, env_steps, episodes)
    return statistics.fmean(record.score for record in records)


def final_success(
    document: Mapping[str, Any], seed: int, *, env_steps: int, episodes: int
) -> float:
    """Share of successes among such episodes."""
    records = _final_records(document, seed, env_steps, episodes)
    return statistics.fmean(float(record.success or 0.0) for record in records)


def _final_records(
    document: Mapping[str, Any], seed: int, env_steps: int, episodes: int
) -> list[Any]:
    config = build_config(load_spec({**document, "seed": seed}))
    algorithm = config.build_algo()
    try:
        while algorithm.train()["env_steps"] < env_steps:
            pass
        policy = Policy.from_algorithm(algorithm)
    finally:
        algorithm.stop()
    seeds = range(1000, 1000 + episodes)
    return list(evaluate_policy(policy, config.env_settings, seeds=seeds, explore=False))
