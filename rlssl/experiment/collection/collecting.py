"""Records a data set, from its beginning or from where a recording stopped."""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlssl.data import DatasetWriter, Description
from rlssl.environments.env_check import EnvSpaces, preflight
from rlssl.errors import SpecError
from rlssl.experiment.collection.acting import make_actor
from rlssl.experiment.collection.playing import built
from rlssl.experiment.collection.recording import PLAYED, SETTINGS, Choices, Recording
from rlssl.experiment.collection.runners import played
from rlssl.experiment.collection.statistics import Statistics
from rlssl.system.interrupts import raise_if_interrupted

#: Seconds between two reports of progress.
PERIOD_S = 10.0


@dataclass(frozen=True)
class Goal:
    """When a recording is long enough: after one of these, whichever is given."""

    episodes: int | None = None
    env_steps: int | None = None

    def is_reached(self, statistics: Statistics) -> bool:
        """Whether enough was played."""
        if self.episodes is not None:
            return statistics.episodes >= self.episodes
        return self.env_steps is not None and statistics.env_steps >= self.env_steps

    def __str__(self) -> str:
        if self.episodes is not None:
            return f"{self.episodes:,} episodes"
        return f"{self.env_steps:,} env steps"


def checked(recording: Recording) -> EnvSpaces:
    """Tries the environment and the policy; returns the spaces.

    Raises:
        SpecError: One of them cannot be used, or not with the other.
    """
    spaces = preflight(recording.env, vectorize="sync")  # single environments are stepped
    env = built(recording)
    try:
        make_actor(recording, env, env.action_space)
    finally:
        env.close()
    return spaces


def collect_episodes(
    recording: Recording,
    spaces: EnvSpaces,
    goal: Goal,
    path: str,
    *,
    num_runners: int = 0,
    plugins: Sequence[str] = (),
    report: Callable[[Statistics], None] = lambda statistics: None,
) -> Statistics:
    """Records until the goal is reached; continues a data set of the same recording.

    Args:
        recording: What is played.
        spaces: From `checked`.
        goal: When it is enough.
        path: The data set.
        num_runners: Processes; 0: this process. The data set does not depend on it.
        plugins: Modules that the processes import.
        report: Called now and then with what was played so far.

    Returns:
        What was played, with what was there before.

    Raises:
        SpecError: If the data set is another recording.
    """
    description = recording.description(spaces)
    writer = DatasetWriter(path, description, resume=True)
    statistics = _found(writer, description, path)
    num_left_over = writer.num_episodes - statistics.recorded
    if goal.is_reached(statistics):
        if num_left_over == 0:
            writer.close()
        return statistics
    first = statistics.episodes
    numbers = itertools.count(first) if goal.episodes is None else range(first, goal.episodes)
    episodes = played(recording, iter(numbers), num_runners, plugins)
    with writer, contextlib.closing(episodes):
        last_report_s = time.monotonic()
        for episode in episodes:
            # Of an episode that was half written when the recording stopped, write the rest.
            for part in episode.recorded[num_left_over:]:
                writer.add(part)
            num_left_over = 0
            statistics.add(episode.record, len(episode.recorded), spaces.action_repeat)
            writer.annotate({PLAYED: statistics.to_json()})
            raise_if_interrupted()
            if goal.is_reached(statistics):
                break
            if time.monotonic() - last_report_s > PERIOD_S:
                last_report_s = time.monotonic()
                report(statistics)
    return statistics


def _found(writer: DatasetWriter, wanted: Description, path: str) -> Statistics:
    """What the data set has already.

    Raises:
        SpecError: If it is another recording.
    """
    found = writer.description
    there, here = _identity(found), _identity(wanted)
    for name, value in here.items():
        if there[name] != value:
            raise SpecError(
                f"{path} has a data set with {name} {there[name]}, and this one has {value}; "
                "give another --to, or the same options to continue."
            )
    saved = found.notes.get(PLAYED, {})
    statistics = Statistics.from_json(saved, path) if saved else Statistics()
    if statistics.recorded > writer.num_episodes:
        raise SpecError(
            f"{path} cannot be continued: its dataset.json counts {statistics.recorded} recorded "
            f"episodes, and its shards have {writer.num_episodes}; record into another folder."
        )
    return statistics


def _identity(description: Description) -> dict[str, Any]:
    """What must be equal for one recording to continue another, by its name in a message."""
    saved = description.to_json()
    named = {name: saved[name] for name in ("env", "policy", "seed")}
    settings = saved["notes"].get(SETTINGS, {})
    return {**named, **{name: settings.get(name) for name in asdict(Choices())}}
