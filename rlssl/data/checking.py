"""What a data set holds in figures, and whether all of it can be read and used."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlssl.data.description import Shard
from rlssl.data.episode import Episode
from rlssl.data.reader import DamagedShardError, EpisodeDataset
from rlssl.errors import SpecError
from rlssl.networks.action_encoding import to_module_actions


@dataclass(frozen=True)
class Problem:
    """What is wrong with some rows of a data set."""

    #: The shard's file.
    file: str
    #: Rows of the data set, both included.
    first_row: int
    last_row: int
    #: In words, with the shard or the episode.
    message: str


def summary_of(dataset: EpisodeDataset) -> dict[str, Any]:
    """The figures of a data set, in JSON; from ``dataset.json``, without reading a shard.

    Returns:
        ``path``, ``complete``, ``shards``, ``episodes``, ``steps``, ``rows``, ``bytes``,
        ``returns`` (of episodes: ``min``, ``mean``, ``max``), ``lengths`` (steps: ``min``,
        ``mean``, ``max``), ``terminated`` and ``truncated`` (episodes), and all of the description.
        Of an empty data set, returns and lengths are empty.
    """
    shards = [shard for shard in dataset.shards if shard.returns]
    episodes = sum(shard.num_episodes for shard in shards)
    returns: dict[str, float] = {}
    lengths: dict[str, float] = {}
    if shards:
        total = sum(shard.returns["mean"] * shard.num_episodes for shard in shards)
        returns = {
            "min": min(shard.returns["min"] for shard in shards),
            "mean": total / episodes,
            "max": max(shard.returns["max"] for shard in shards),
        }
        lengths = {
            "min": min(shard.lengths["min"] for shard in shards),
            "mean": sum(shard.num_steps for shard in shards) / episodes,
            "max": max(shard.lengths["max"] for shard in shards),
        }
    return {
        "path": dataset.path,
        "complete": dataset.is_complete,
        "shards": len(dataset.shards),
        "episodes": len(dataset),
        "steps": dataset.num_steps,
        "rows": dataset.num_rows,
        "bytes": sum(shard.bytes for shard in dataset.shards),
        "returns": returns,
        "lengths": lengths,
        "terminated": sum(shard.terminated for shard in shards),
        "truncated": sum(shard.truncated for shard in shards),
        **dataset.description.to_json(),
    }


def problems_of(dataset: EpisodeDataset) -> Iterator[Problem]:
    """Reads everything, and says what is wrong.

    It finds shards that are missing, damaged, or have other rows than ``dataset.json`` says;
    rewards that are not finite; and actions outside the action space.
    """
    for shard in dataset.shards:
        try:
            episodes = dataset.read_shard(shard)
        except DamagedShardError as error:
            last = shard.first_row + shard.num_rows - 1
            yield Problem(shard.file, shard.first_row, last, str(error))
            continue
        yield from _problems_in(dataset, shard, episodes)


def _problems_in(
    dataset: EpisodeDataset, shard: Shard, episodes: list[Episode]
) -> Iterator[Problem]:
    space = dataset.description.action_space
    check = None if space is None else to_module_actions(space)
    row = shard.first_row
    for number, episode in enumerate(episodes, shard.first_episode):
        place = shard.file, row, row + len(episode)
        where = f"episode {number} (rows {row} to {row + len(episode)} in {shard.file})"
        wrong = np.flatnonzero(~np.isfinite(episode.rewards))
        if len(wrong):
            reward = f"{episode.rewards[wrong[0]]} at step {wrong[0]}"
            yield Problem(*place, f"{where}: the reward is {reward}.")
        try:
            if check is not None:
                check(episode.actions)
        except SpecError as error:
            yield Problem(*place, f"{where}: {error}")
        row += len(episode) + 1
