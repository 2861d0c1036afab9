"""Small data sets with demonstrations, for the losses that need them."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tree

from rlssl.auxiliary.imitation.demonstrations import DemonstrationOptions
from rlssl.data import DatasetWriter, Description, Episode
from rlssl.environments import make_env
from rlssl.environments.experts import make_expert
from rlssl.registry import AUXILIARY_LOSSES

#: Options that a loss needs with short episodes that end by termination.
NEEDED: dict[str, dict[str, Any]] = {
    "demonstration_progress": {"spacing": 3},
    "gail": {"allow_variable_horizon": True},
}


def with_demonstrations(losses: dict[str, Any], env: dict[str, Any]) -> dict[str, Any]:
    """The losses with a data set for those that need demonstrations.

    Args:
        losses: {name: options}.
        env: The environment, as ``{"id": ..., **options}``.
    """
    return {name: {**_needed(name, env), **options} for name, options in losses.items()}


def _needed(name: str, env: dict[str, Any]) -> dict[str, Any]:
    if not issubclass(AUXILIARY_LOSSES[name].Config, DemonstrationOptions):
        return {}
    return {"demonstrations": random_episodes(tuple(sorted(env.items()))), **NEEDED.get(name, {})}


@functools.cache
def random_episodes(env: tuple[tuple[str, Any], ...], num: int = 3, most: int = 12) -> str:
    """The folder of a data set with episodes of random actions; see `record`."""
    folder = Path(tempfile.mkdtemp(prefix="rlssl-tests-"))
    return record(folder / "episodes", dict(env), [None] * num, most=most)


def record(
    path: Path, env: dict[str, Any], policies: list[Any], *, most: int = 10_000, seed: int = 0
) -> str:
    """Records an episode of each policy; see `episode_of`.

    Returns:
        The path as text.
    """
    made: Any = make_env(env)
    made.action_space.seed(seed)
    spaces = made.observation_space, made.action_space
    with DatasetWriter(path, Description(*spaces, env=env)) as writer:
        for index, policy in enumerate(policies):
            writer.add(episode_of(made, policy, seed=seed + index, most=most))
    made.close()
    return str(path)


def episode_of(env: Any, policy: Any, *, seed: int, most: int = 10_000) -> Episode:
    """An episode of at most ``most`` steps.

    Args:
        env: The environment.
        policy: A function of an observation, the name of an expert, or None: random actions.
        seed: Of the first observation.
        most: Steps after which the recording stops.
    """
    observation, _ = env.reset(seed=seed)
    act = _policy(policy, env, observation)
    frames: list[Any] = [observation]
    actions: list[Any] = []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated or len(actions) == most):
        actions.append(act(observation, actions[-1] if actions else None))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        frames.append(observation)
        rewards.append(float(reward))
    stacked, taken = (
        tree.map_structure(lambda *rows: np.stack(rows), *rows) for rows in (frames, actions)
    )
    return Episode(stacked, taken, np.array(rewards, np.float32), terminated, truncated)


def _policy(policy: Any, env: Any, observation: Any) -> Callable[[Any, Any], Any]:
    """A function of an observation and of the previous action."""
    if policy is None:
        return lambda *_: env.action_space.sample()
    if isinstance(policy, str):
        expert = make_expert(policy, env)
        expert.reset(observation)
        return expert.act
    return lambda observation, _: policy(observation)
