"""Evaluating a policy: seeded episodes, dealt to environments in turn."""

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rlssl.environments.building import make_env
from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch
from rlssl.errors import EnvironmentFaultError
from rlssl.policy import Policy
from rlssl.rollouts.episode_metrics import success_of

logger = logging.getLogger(__name__)

#: Episodes are dealt to this many environment objects in turn, whatever the number of runners, so
#: that an environment which carries something over between episodes gives the same list too.
NUM_SLOTS = 8
#: An evaluation episode that is still going after so many agent steps is cut off, and a line says
#: so: half an hour of Atari at 60 frames a second and 4 frames a step.
MAX_EPISODE_STEPS = 27_000
#: Seconds that one step or reset of an evaluation environment may take.
STEP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class EpisodeRecord:
    """One evaluation episode."""

    seed: int
    # Sum of the environment's own rewards.
    score: float
    # Agent steps.
    length: int
    # 1.0 or 0.0; nan where the environment does not say.
    success: float


def evaluate_policy(
    policy: Policy,
    env: Mapping[str, Any],
    *,
    seeds: Iterable[int],
    explore: bool,
    max_steps: int = MAX_EPISODE_STEPS,
) -> list[EpisodeRecord]:
    """One episode per seed, in the seeds' order, on environments built for the purpose."""
    seeds = list(seeds)
    played = (run_slot(policy, env, slot, explore, max_steps) for slot in slots(seeds))
    records = [record for slot in played for record in slot]
    by_seed = {record.seed: record for record in records}
    return [by_seed[seed] for seed in seeds]


def slots(seeds: Sequence[int]) -> list[list[int]]:
    """Deals the seeds to at most ``NUM_SLOTS`` environments, in turn."""
    dealt = [list(seeds[slot::NUM_SLOTS]) for slot in range(NUM_SLOTS)]
    return [slot for slot in dealt if slot]


def run_slot(
    policy: Policy,
    env: Mapping[str, Any],
    seeds: Sequence[int],
    explore: bool,
    max_steps: int = MAX_EPISODE_STEPS,
) -> list[EpisodeRecord]:
    """Runs the seeds' episodes one after the other on one environment.

    Raises:
        EnvironmentFaultError: If a step or reset takes longer than ``STEP_TIMEOUT_S``.
    """
    environment = make_env(env, split="eval", seed=seeds[0])
    watch = TimeoutWatch()
    play = functools.partial(_run_episode, policy, environment, watch, explore, max_steps)
    try:
        # Sampling must not disturb, nor depend on, what else draws from the global generator.
        with torch.random.fork_rng(devices=[]):
            return [watch.call(STEP_TIMEOUT_S, play, seed) for seed in seeds]
    except EnvironmentTimeoutError as error:
        raise EnvironmentFaultError(
            f"environment {env['id']!r} stands still for more than {STEP_TIMEOUT_S:g} s in an "
            "evaluation."
        ) from error
    finally:
        watch.stop()
        environment.close()


def summarize(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Means over the episodes; the deviation is that of a sample (n - 1), nan for one episode."""
    scores = np.array([record.score for record in records])
    successes = np.array([record.success for record in records])
    known = successes[~np.isnan(successes)]
    return {
        "episode_return_mean": float(scores.mean()),
        "episode_return_std": float(scores.std(ddof=1)) if len(scores) > 1 else float("nan"),
        "episode_len_mean": float(np.mean([record.length for record in records])),
        "success_rate": float(known.mean()) if len(known) else float("nan"),
        "num_episodes": len(records),
    }


def _run_episode(
    policy: Policy, env: gym.Env, watch: TimeoutWatch, explore: bool, max_steps: int, seed: int
) -> EpisodeRecord:
    torch.default_generator.manual_seed(seed)
    policy.reset()
    observation, info = env.reset(seed=seed)
    score, length, ended = 0.0, 0, False
    while not ended and length < max_steps:
        action = policy.act(observation, explore=explore)
        watch.beats += 1
        observation, reward, terminated, truncated, info = env.step(action)
        score += float(reward)
        length += 1
        ended = terminated or truncated
    if not ended:
        logger.warning("Episode %d was cut off after %d agent steps.", seed, length)
    return EpisodeRecord(seed=seed, score=score, length=length, success=success_of(info))
