"""Evaluates a policy on seeded episodes, which are dealt to environments in turn."""

import functools
import logging
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from rlssl.environments.building import make_env, seed_spaces
from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch
from rlssl.environments.vector_infos import DEFAULT_SUCCESS
from rlssl.errors import EnvironmentFaultError
from rlssl.policy import Policy
from rlssl.rollouts.episode_metrics import success_of
from rlssl.system.random_state import undisturbed_generators
from rlssl.system.seeding import seed_episode

logger = logging.getLogger(__name__)

#: Number of environment objects to which episodes are dealt in turn. It does not depend on the
#: number of runners, so even an environment with state across episodes gives the same results.
NUM_SLOTS = 8
#: Agent steps after which an evaluation episode is cut off, with a warning: half an hour of Atari
#: at 60 frames per second and 4 frames per step.
MAX_EPISODE_STEPS = 27_000
#: Seconds that one step or reset of an evaluation environment may take.
STEP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class EpisodeRecord:
    """One evaluation episode."""

    seed: int
    # Sum of the environment's rewards.
    score: float
    # Agent steps.
    length: int
    # 1.0 or 0.0, or a fraction; nan if the environment does not say. Of any step or of the last
    # one, as the policy's setting ``success`` says.
    success: float


class Recorder(Protocol):
    """Gets some steps of the episodes; see `rlssl.diagnostics.recording.StepRecorder`."""

    def wants(self, seed: int, step: int) -> bool:
        """Whether `add` should be called for this step of the episode with this seed."""

    def add(self, seed: int, seen: Any, action: Any, reward: float) -> None:
        """Takes the module's input (a struct of [1, ...]), the action, and its reward."""


def evaluate_policy(
    policy: Policy,
    env: Mapping[str, Any],
    *,
    seeds: Iterable[int],
    explore: bool,
    max_steps: int = MAX_EPISODE_STEPS,
    step_timeout_s: float = STEP_TIMEOUT_S,
    recorder: Recorder | None = None,
) -> list[EpisodeRecord]:
    """Runs one episode per seed on newly built environments.

    Args:
        policy: The policy to evaluate.
        env: ``{"id": ..., **options}`` of the environment.
        seeds: Seeds of the episodes.
        explore: Whether the policy samples its actions.
        max_steps: Agent steps after which an episode is cut off.
        step_timeout_s: Seconds that one step or reset may take.
        recorder: Gets the steps that it wants; None: no steps are kept.

    Returns:
        The episodes, in the order of the seeds.

    Raises:
        EnvironmentFaultError: If a step or reset takes longer than ``step_timeout_s``.
    """
    seeds = list(seeds)
    played = (
        run_slot(policy, env, slot, explore, max_steps, step_timeout_s, recorder)
        for slot in slots(seeds)
    )
    records = [record for slot in played for record in slot]
    by_seed = {record.seed: record for record in records}
    return [by_seed[seed] for seed in seeds]


def slots(seeds: Sequence[int]) -> list[list[int]]:
    """Deals the seeds to at most ``NUM_SLOTS`` environments, in turn.

    Example:
        >>> slots(range(10))
        [[0, 8], [1, 9], [2], [3], [4], [5], [6], [7]]
    """
    dealt = [list(seeds[slot::NUM_SLOTS]) for slot in range(NUM_SLOTS)]
    return [slot for slot in dealt if slot]


def run_slot(
    policy: Policy,
    env: Mapping[str, Any],
    seeds: Sequence[int],
    explore: bool,
    max_steps: int = MAX_EPISODE_STEPS,
    step_timeout_s: float = STEP_TIMEOUT_S,
    recorder: Recorder | None = None,
) -> list[EpisodeRecord]:
    """Runs the episodes of the seeds one after the other on one environment.

    Raises:
        EnvironmentFaultError: If a step or reset takes longer than ``step_timeout_s``.
    """
    # Training draws from the same global generators, and must not change with evaluation.
    with undisturbed_generators():
        return _run_slot(policy, env, seeds, explore, max_steps, step_timeout_s, recorder)


def evaluation_env(env: Mapping[str, Any], seed: int) -> gym.Env:
    """Builds an evaluation environment, which shares no random numbers with training.

    Example:
        >>> evaluation_env({"id": "CartPole-v1"}, 0).action_space
        Discrete(2)
    """
    seed_episode(seed)
    return make_env(env, split="eval", seed=seed)


def begin_episode(env: gym.Env, seed: int) -> tuple[Any, dict[str, Any]]:
    """Resets an evaluation environment, so that the episode depends on its seed only.

    It seeds the global generators, too: call it within ``undisturbed_generators()``.

    Example:
        >>> env = evaluation_env({"id": "CartPole-v1"}, 0)
        >>> (begin_episode(env, 3)[0] == begin_episode(env, 3)[0]).all()
        np.True_
    """
    seed_episode(seed)
    seed_spaces(env, seed)
    return env.reset(seed=seed)


def _run_slot(
    policy: Policy,
    env: Mapping[str, Any],
    seeds: Sequence[int],
    explore: bool,
    max_steps: int,
    step_timeout_s: float,
    recorder: Recorder | None,
) -> list[EpisodeRecord]:
    environment = evaluation_env(env, seeds[0])
    watch = TimeoutWatch()
    play = functools.partial(_run_episode, policy, environment, watch, explore, max_steps, recorder)
    try:
        return [watch.call(step_timeout_s, play, seed) for seed in seeds]
    except EnvironmentTimeoutError as error:
        raise EnvironmentFaultError(
            f"environment {env['id']!r} timed out after {step_timeout_s:g} s in an evaluation."
        ) from error
    finally:
        watch.stop()
        environment.close()


def summarize(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Averages over the episodes.

    The standard deviation is the sample's (divided by n - 1); it is nan for a single episode.
    """
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
    policy: Policy,
    env: gym.Env,
    watch: TimeoutWatch,
    explore: bool,
    max_steps: int,
    recorder: Recorder | None,
    seed: int,
) -> EpisodeRecord:
    """Plays an episode; gives a sign of life with each step."""
    episode = play_episode(policy, env, seed, explore=explore, max_steps=max_steps, keep=recorder)
    while True:
        try:
            next(episode)
        except StopIteration as end:
            record: EpisodeRecord = end.value
            return record
        watch.heartbeats += 1


def play_episode(
    policy: Policy,
    env: gym.Env,
    seed: int,
    *,
    explore: bool,
    max_steps: int = MAX_EPISODE_STEPS,
    keep: Recorder | None = None,
) -> Generator[float, None, EpisodeRecord]:
    """Plays an episode step by step, so that something else can be done in between.

    It draws from the global generators, and seeds them: call it within
    ``undisturbed_generators()``.

    Args:
        policy: The policy to evaluate.
        env: From `evaluation_env`.
        seed: Seed of the episode.
        explore: Whether the policy samples its actions.
        max_steps: Agent steps after which the episode is cut off.
        keep: Gets the steps that it wants; None: no steps are kept.

    Yields:
        The score so far: 0 after the reset, then after each step but the last one.

    Returns:
        The whole episode.
    """
    policy.reset()
    observation, _ = begin_episode(env, seed)
    score, length, ended = 0.0, 0, False
    counts_any = policy.settings.get("success", DEFAULT_SUCCESS) == "any"
    success = math.nan
    while not ended and length < max_steps:
        yield score
        action = policy.act(observation, explore=explore)
        keeper = keep if keep is not None and keep.wants(seed, length) else None
        seen = None if keeper is None else policy.seen(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        if keeper is not None:
            keeper.add(seed, seen, action, float(reward))
        score += float(reward)
        length += 1
        ended = terminated or truncated
        now = success_of(info)
        success = float(np.fmax(success, now)) if counts_any else now
    if not ended:
        logger.warning("Episode %d was cut off after %d agent steps.", seed, length)
    return EpisodeRecord(seed=seed, score=score, length=length, success=success)
