"""A round of DAgger: episodes of a mixed policy, in which the expert labels every state."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.data import Episode
from rlssl.environments import make_env
from rlssl.environments.experts import is_expert, make_expert
from rlssl.errors import SpecError
from rlssl.evaluation import MAX_EPISODE_STEPS
from rlssl.policy import Policy
from rlssl.run_files import POLICY_FILE


@dataclass(frozen=True)
class LabeledEpisode:
    """An episode of the mixed policy."""

    # With the expert's actions, in the environment's units, not those that were taken.
    labeled: Episode
    # Share of steps whose action was the expert's.
    expert_share: float

    @property
    def score(self) -> float:
        """Sum of the rewards that were received."""
        return float(self.labeled.rewards.sum(dtype=np.float64))


class PolicyAsExpert:
    """A trained policy with the methods of an expert.

    Args:
        policy: The policy; its best actions are the labels.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def reset(self, observation: Any) -> None:
        """Begins an episode."""
        del observation
        self._policy.reset()

    def act(self, observation: Any, previous_action: Any) -> Any:
        """The policy's most likely action."""
        del previous_action
        return self._policy.act(observation)


def find_expert(name: str, env: gym.Env) -> Any:
    """The expert of a run.

    Args:
        name: ``expert/NAME``, or the folder of an exported policy.
        env: The environment, as ``make_env`` builds it.

    Raises:
        SpecError: If there is no such expert, or it is for other environments.
    """
    if is_expert(name):
        return make_expert(name, env)
    if not (Path(name) / POLICY_FILE).is_file():
        raise SpecError(
            f"training.expert: {name!r} is neither expert/NAME (rlssl list experts) nor the folder "
            "of an exported policy (rlssl export)."
        )
    policy = Policy.load(name)
    for what in ("observation_space", "action_space"):
        of_policy, of_env = getattr(policy, what), getattr(env, what)
        if of_policy != of_env:
            raise SpecError(
                f"training.expert: the policy in {name} has {what} {of_policy}, and the "
                f"environment has {of_env}; give a policy of the same environment and options."
            )
    return PolicyAsExpert(policy)


def play(
    env: gym.Env,
    expert: Any,
    act: Callable[[Any], Any],
    *,
    beta: float,
    seed: int,
    max_steps: int = MAX_EPISODE_STEPS,
) -> LabeledEpisode:
    """Plays an episode in which each action is the expert's with probability ``beta``.

    The expert is asked at every state, before the step; all its answers are in the episode.

    Args:
        env: The environment.
        expert: Has ``reset(observation)`` and ``act(observation, previous_action)``.
        act: Observation -> the learner's action. It is asked at every step, because it may have a
            memory, but not if ``beta`` is 1.
        beta: Probability of the expert's action at each step, in [0, 1].
        seed: Seed of the episode, and of the choices between both.
        max_steps: Steps after which the episode is truncated.
    """
    generator = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    expert.reset(observation)
    # Copies, because environments may write into an array again, and clip actions in place.
    observations, labels = [copy.deepcopy(observation)], list[Any]()
    rewards, choices = list[float](), list[bool]()
    previous, terminated, truncated = None, False, False
    while not (terminated or truncated):
        label = copy.deepcopy(expert.act(observation, previous))
        own = None if beta >= 1 else act(observation)
        is_expert_step = own is None or bool(generator.random() < beta)
        previous = label if is_expert_step else own
        observation, reward, terminated, truncated, _ = env.step(copy.deepcopy(previous))
        truncated = truncated or (not terminated and len(labels) + 1 == max_steps)
        observations.append(copy.deepcopy(observation))
        labels.append(label)
        rewards.append(float(reward))
        choices.append(is_expert_step)
    episode = Episode(
        stacked(observations, env.observation_space),
        stacked(labels, env.action_space),
        np.array(rewards, np.float32),
        terminated,
        truncated,
    )
    return LabeledEpisode(episode, float(np.mean(choices)))


def stacked(values: list[Any], space: gym.Space) -> Any:
    """Struct of [T, ...] arrays with the dtypes of a space."""
    if isinstance(space, gym.spaces.Dict):
        return {key: stacked([v[key] for v in values], part) for key, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(stacked([v[i] for v in values], part) for i, part in enumerate(space))
    return np.asarray(values, dtype=space.dtype)


def beta_of(round_number: int, beta_rounds: int) -> float:
    """The probability of the expert's action in a round, counted from 0.

    Example:
        >>> [beta_of(number, 1) for number in range(3)]
        [1.0, 0.0, 0.0]
        >>> [beta_of(number, 4) for number in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    return max(0.0, 1.0 - round_number / beta_rounds)


@contextmanager
def environment_of_rounds(settings: Mapping[str, Any], seed: int) -> Iterator[gym.Env]:
    """Builds the training environment, and closes it afterwards.

    Args:
        settings: ``{"id": ..., **options}``.
        seed: Seed that the environment's maker gets.
    """
    env = make_env(settings, seed=seed)
    try:
        yield env
    finally:
        env.close()
