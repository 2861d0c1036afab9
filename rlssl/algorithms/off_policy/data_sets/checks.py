"""Checks that a data set fits the run that learns from it, before anything starts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.algorithms.off_policy.data_sets.settings import DataSettings
from rlssl.data import EpisodeDataset
from rlssl.data.description import FRAME_STACK
from rlssl.data.replay_loading import check_spaces
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from rlssl.system.seeding import stream

#: The action space of a data set without actions; no loss may read its one action.
NO_ACTIONS: gym.Space = gym.spaces.Discrete(1)


def find_spaces(config: Any, of_environment: Callable[[], EnvSpaces]) -> EnvSpaces:
    """The spaces of a run with a data set.

    Args:
        config: An off-policy config with a data set.
        of_environment: Builds, resets and steps the environment once.

    Raises:
        SpecError: If the data set cannot be read, has no actions and the run needs them, or does
            not agree with the environment.
    """
    dataset = EpisodeDataset(config.data_settings.path)
    described = dataset.description
    if described.action_space is None and config.needs_actions:
        raise SpecError(
            f"data.path {dataset.path}: the data set has no actions, and {config.algorithm_name} "
            "learns from actions. Label them (`rlssl data label`), use pretrain with losses that "
            "read none, or take a data set with actions."
        )
    of_data = EnvSpaces(
        described.observation_space,
        described.action_space or NO_ACTIONS,
        frame_stack=int(described.notes.get(FRAME_STACK, 1)),
    )
    env = config.env_settings
    is_recorded_one = config.env is None or dict(described.env or {}) == env
    if is_recorded_one and not config.needs_environment:
        return of_data
    found = of_environment()
    check_agrees(dataset, env, found)
    if not config.trains_offline:
        return found
    # A recorder notes the stack; a data set that was written by hand may not.
    stack = int(described.notes.get(FRAME_STACK, found.frame_stack))
    return dataclasses.replace(of_data, frame_stack=stack)


def check_agrees(dataset: EpisodeDataset, env: Mapping[str, Any], spaces: EnvSpaces) -> None:
    """Refuses a data set whose spaces are not those of the environment.

    Raises:
        SpecError: Naming both.
    """
    described = dataset.description
    actions = described.action_space or spaces.action_space
    try:
        check_spaces(
            dataclasses.replace(described, action_space=actions),
            spaces.observation_space,
            spaces.action_space,
            f"data.path {dataset.path}",
        )
    except SpecError as error:
        raise SpecError(
            f"env {env['id']!r}: {error} Or leave env out: then it is that of the data set."
        ) from error


def check_size(dataset: EpisodeDataset, settings: DataSettings) -> None:
    """Refuses a data set with too few episodes.

    Batches are drawn with replacement, so it may have fewer steps than a batch.

    Args:
        dataset: The data set.
        settings: Which of its episodes are trained on.

    Raises:
        SpecError: With the numbers.
    """
    if not len(dataset):
        raise SpecError(f"data.path {dataset.path} has no episodes; record some first.")
    share = settings.holdout
    num_held_out = len(held_out_episodes(len(dataset), share))
    where = f"the {len(dataset):,} episodes of {dataset.path}"
    if share and num_held_out in (0, len(dataset)):
        part, fix = ("none", "raise it") if num_held_out == 0 else ("all", "lower it")
        raise SpecError(
            f"data.holdout {share} holds out {part} of {where}; {fix}, or collect more episodes."
        )
    if (wanted := settings.episodes or 0) > len(dataset) - num_held_out:
        held_out = f" {num_held_out:,} are held out;" if num_held_out else ""
        raise SpecError(
            f"data.episodes: {wanted:,} is more than there are in {where};{held_out} lower it, or "
            "collect more episodes."
        )


def held_out_episodes(num_episodes: int, share: float) -> frozenset[int]:
    """The numbers of the episodes that are not trained on, evenly spread over the data set.

    Example:
        >>> sorted(held_out_episodes(10, 0.2))
        [2, 7]
    """
    count = round(share * num_episodes)
    return frozenset(int((k + 0.5) * num_episodes / count) for k in range(count))


def trained_on_episodes(
    num_episodes: int, held_out: frozenset[int], count: int | None, seed: int | None
) -> frozenset[int]:
    """The numbers of the episodes that are trained on.

    Args:
        num_episodes: Of the data set.
        held_out: Those that are not.
        count: How many, drawn without replacement; None: all others.
        seed: The seed of the run; None: as 0, since a run that continues must draw them again.

    Example:
        >>> trained_on_episodes(5, frozenset({2}), None, 0) == {0, 1, 3, 4}
        True
        >>> len(trained_on_episodes(5, frozenset({2}), 3, 0) - {2})
        3
    """
    others = sorted(set(range(num_episodes)) - held_out)
    if count is None:
        return frozenset(others)
    generator = np.random.default_rng(stream(seed or 0, "data_episodes"))
    return frozenset(generator.choice(others, count, replace=False).tolist())
