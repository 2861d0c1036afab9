"""Trains until it is good enough, or for as long as it may."""

from typing import Any


def best_return(config: Any, *, env_steps: int, enough: float) -> float:
    """The best mean of 20 episodes within so many env steps; ends where it is ``enough``."""
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
