"""Fills replay buffers from a data set of episodes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import tree

from rlssl.algorithms.off_policy.data_sets.checks import held_out_episodes, trained_on_episodes
from rlssl.algorithms.off_policy.replay_building import make_replay
from rlssl.data import Episode, EpisodeDataset
from rlssl.data.replay_loading import fill
from rlssl.errors import SpecError
from rlssl.networks.action_encoding import to_module_actions
from rlssl.networks.layers.vector_normalizer import Moments, VectorNormalizer
from rlssl.replay import ReplayBuffer
from rlssl.replay.draw_state import draw_state, set_draw_state


@dataclass(frozen=True)
class LoadedData:
    """A data set in memory."""

    path: str
    # Of all shards; it does not depend on where the data set is.
    checksum: str
    # The episodes to train on.
    replay: ReplayBuffer
    # The episodes that are not trained on; None without `data.holdout`.
    held_out: ReplayBuffer | None
    # Of the observations to train on, if the module normalizes observations; else [].
    moments: list[Moments]

    @property
    def measured(self) -> ReplayBuffer:
        """The held-out episodes; without them, those to train on."""
        return self.replay if self.held_out is None else self.held_out

    def get_state(self) -> dict[str, Any]:
        """What the draws need besides the rows, which are in the data set."""
        return {"checksum": self.checksum, "draws": draw_state(self.replay)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Lets the same data set give the same batches, bit for bit.

        Raises:
            SpecError: If the data set has changed.
        """
        if state["checksum"] != self.checksum:
            raise SpecError(
                f"data.path {self.path}: the data set has changed since the checkpoint was "
                "written, so that the run cannot continue as it began. Restore the data set, or "
                "start a new run."
            )
        set_draw_state(self.replay, state["draws"])


def load_data(config: Any, observation_space: gym.Space, action_space: gym.Space) -> LoadedData:
    """Reads the data set of a config into replay buffers.

    Args:
        config: A config that is adapted to its spaces.
        observation_space: The space of one environment and one frame.
        action_space: The space of one environment; of data without actions, that of one action.

    Raises:
        SpecError: If an episode does not fit the spaces, or goals are to be replaced and the
            rewards are not those of the environment.
        DamagedShardError: If a file of the data set is damaged.
    """
    dataset = EpisodeDataset(config.data_settings.path)
    settings = config.data_settings
    chosen = held_out_episodes(len(dataset), settings.holdout)
    trained = trained_on_episodes(len(dataset), chosen, settings.episodes, config.seed)
    convert: Callable[[Any], Any] = _as_they_are
    if dataset.description.action_space is not None:
        convert = to_module_actions(action_space)
    # Only the shards know how long each episode is. Rows that are not written take no memory.
    capacity = dataset.num_rows + config.frame_stack
    new = {"capacity": capacity, "role": "data"}
    replay = make_replay(config, observation_space, action_space, **new)
    normalizer = VectorNormalizer(observation_space) if config.normalizes_observations else None
    moments: list[Moments] = []
    trained_on = _observed(_some(dataset, trained), normalizer, moments)
    is_whole = len(trained) == len(dataset) and normalizer is None
    source: Iterable[Episode] = _with_actions(dataset) if is_whole else trained_on
    fill(replay, source, convert, name=dataset.path, numbers=sorted(trained))
    _check_rewards(replay, dataset.path)
    held_out = None
    if chosen:
        held_out = make_replay(config, observation_space, action_space, **new)
        source = _some(dataset, chosen)
        numbers = sorted(chosen)
        fill(held_out, source, convert, prefix="held", name=dataset.path, numbers=numbers)
    return LoadedData(dataset.path, checksum_of(dataset), replay, held_out, moments)


def _check_rewards(replay: ReplayBuffer, path: str) -> None:
    if replay.relabeler is None:
        return
    if wrong := replay.relabeler.wrong_reward():
        raise SpecError(
            f"training.relabel: a step in {path} was rewarded with {wrong[0]:g}, but "
            f"compute_reward of the environment says {wrong[1]:g}: rewards of other goals would "
            "not fit. Record the data set with the same options of the environment, or leave "
            "training.relabel out."
        )


def _some(dataset: EpisodeDataset, numbers: frozenset[int]) -> Iterator[Episode]:
    """The episodes with these numbers."""
    for number, episode in enumerate(_with_actions(dataset)):
        if number in numbers:
            yield episode


def _with_actions(dataset: EpisodeDataset) -> Iterable[Episode]:
    """The episodes; without actions, each gets the action 0, which no loss may read."""
    if dataset.description.action_space is not None:
        return dataset
    return (replace(one, actions=np.zeros(len(one), np.int64)) for one in dataset)


def _observed(
    episodes: Iterable[Episode], normalizer: VectorNormalizer | None, moments: list[Moments]
) -> Iterator[Episode]:
    """The episodes; adds the moments of the observations at which actions were taken."""
    for episode in episodes:
        if normalizer is not None:
            frames = tree.map_structure(lambda leaf: leaf[:-1], episode.observations)
            moments.append(normalizer.moments(frames))
        yield episode


def _as_they_are(actions: Any) -> Any:
    return actions


def checksum_of(dataset: EpisodeDataset) -> str:
    """One checksum of all shards."""
    words = " ".join(shard.sha256 for shard in dataset.shards)
    return hashlib.sha256(words.encode()).hexdigest()
