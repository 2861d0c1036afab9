"""Metrics of every finished episode: return, length, success, step and duration."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ray.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    EPISODE_DURATION_SEC_MEAN,
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
)

from rlssl.environments.vector_infos import SUCCESS_KEYS, as_number, vector_info
from rlssl.ray_internals.env_runner import log_values

#: Key of the logged series; each series has one entry for each episode.
EPISODES_KEY = "rlssl_episodes"

#: Key of a runner's metrics: the mean sum of ``learning_reward`` of an episode.
LEARNING_RETURN_MEAN = "learning_return_mean"


class FinishedEpisode(NamedTuple):
    """One episode of the environment, which may consist of several learning episodes."""

    # Sum of the environment's rewards, neither clipped nor discounted.
    episode_return: float
    # Agent steps.
    length: int
    # 1.0 or 0.0, or a fraction if the environment gives one; nan if it does not say.
    success: float
    # Agent steps of the runner from the Algorithm's last result to the end of the episode.
    offset: int
    # Seconds since the reset.
    duration_s: float


class EpisodeLog:
    """Returns and lengths of N running episodes, and the episodes finished since `drain()`."""

    #: [N], the highest success of the running episodes' steps; None if no step gave one.
    _best: np.ndarray | None = None
    #: Finished episodes that `newly_finished` has returned.
    _num_shown = 0
    #: [N], sums of ``learning_reward`` of the running episodes; None if no step gave one.
    _learned: np.ndarray | None = None
    #: The same of the episodes finished since `drain_learned`.
    _finished_learned: Sequence[float] = ()

    def __init__(self, num_envs: int) -> None:
        self._finished: list[FinishedEpisode] = []
        self._steps = 0
        self.restart(num_envs)

    def restart(self, num_envs: int, *, lost_steps: int = 0) -> None:
        """Drops the unfinished episodes.

        Args:
            num_envs: N from now on.
            lost_steps: Agent steps counted by `step` that the runner will not return.
        """
        self._steps -= lost_steps
        self._returns = np.zeros(num_envs, np.float64)
        self._lengths = np.zeros(num_envs, np.int64)
        # Environments that stepped in their last vector step; the others were reset.
        self._stepped = np.zeros(num_envs, np.bool_)
        self._started_s = np.full(num_envs, time.perf_counter())
        self._best = self._learned = None

    def forget(self, slots: list[int], *, lost_steps: int) -> None:
        """Drops the unfinished episodes of some environments.

        Args:
            slots: The environments.
            lost_steps: Agent steps counted by `step` that the runner will not return.
        """
        self._steps -= lost_steps
        self._returns[slots] = self._lengths[slots] = 0
        self._started_s[slots] = time.perf_counter()
        if self._best is not None:
            self._best[slots] = math.nan
        if self._learned is not None:
            self._learned[slots] = 0.0

    def step(self, rewards: np.ndarray, stepped: np.ndarray, slots: slice, count: int) -> None:
        """Counts one vector step of n environments.

        Args:
            rewards: [n], the environment's rewards; 0 where the step was an autoreset.
            stepped: [n], bool; False where the step was an autoreset.
            slots: The slots of the n environments.
            count: Number of True values in ``stepped``.
        """
        self._returns[slots] += rewards
        self._lengths[slots] += stepped
        self._stepped[slots] = stepped
        self._stop = slots.stop
        self._steps += count

    def succeed(self, successes: np.ndarray, slots: slice) -> None:
        """Notes the successes of a step of n environments, so that any step makes a success.

        Args:
            successes: [n]; nan where the step was an autoreset, or the environment does not say.
            slots: The slots of the n environments.
        """
        if self._best is None:
            self._best = np.full(len(self._lengths), math.nan)
        self._best[slots] = np.fmax(self._best[slots], successes)

    def learn(self, rewards: np.ndarray, slots: slice) -> None:
        """Notes the rewards to learn from of a step of n environments, if they are others.

        Args:
            rewards: [n]; 0 where the step was an autoreset.
            slots: The slots of the n environments.
        """
        if self._learned is None:
            self._learned = np.zeros(len(self._lengths))
        self._learned[slots] += rewards

    def drain_learned(self) -> Sequence[float]:
        """The sums of the rewards to learn from of finished episodes; removes them."""
        finished, self._finished_learned = self._finished_learned, ()
        return finished

    def best_success(self, slot: int, success: float) -> float:
        """The highest success of the episode of environment ``slot``, which ends with this one."""
        if self._best is None:
            return success
        best = float(np.fmax(self._best[slot], success))
        self._best[slot] = math.nan
        return best

    def finish(self, slot: int, success: float) -> None:
        """Ends the episode of environment ``slot`` at the last counted step.

        The environments of a vector step count one after the other, as in RLlib's loop, so no two
        episodes have the same offset.

        Args:
            slot: The environment.
            success: The success of the last step; `succeed` has noted those of earlier steps.
        """
        now = time.perf_counter()
        success = self.best_success(slot, success)
        self.add(
            episode_return=float(self._returns[slot]),
            length=int(self._lengths[slot]),
            success=success,
            offset=self._steps - int(np.count_nonzero(self._stepped[slot + 1 : self._stop])),
            duration_s=now - float(self._started_s[slot]),
        )
        if self._learned is not None:
            self._finished_learned = [*self._finished_learned, float(self._learned[slot])]
            self._learned[slot] = 0.0
        self._returns[slot] = self._lengths[slot] = 0
        self._started_s[slot] = now

    def add(self, **fields: Any) -> None:
        """Adds an episode that was counted elsewhere; see `FinishedEpisode` for the fields."""
        self._finished.append(FinishedEpisode(**fields))

    def newly_finished(self) -> list[FinishedEpisode]:
        """The episodes finished since the last call or `drain`; `drain` returns them again."""
        new = self._finished[self._num_shown :]
        self._num_shown = len(self._finished)
        return new

    def count_from(self, steps: int) -> None:
        """Lets the next offsets count from ``steps`` instead of 0; called after `drain`."""
        self._steps = steps

    def drain(self, *, keeps_counting: bool = False) -> list[FinishedEpisode]:
        """Returns the finished episodes, oldest first, and removes them.

        Args:
            keeps_counting: Whether offsets do not restart at 0, but go on until `count_from`.
        """
        finished, self._finished = self._finished, []
        self._num_shown = 0
        if not keeps_counting:
            self._steps = 0
        return finished


def log_finished(metrics: Any, finished: list[FinishedEpisode]) -> None:
    """Logs ``rlssl_episodes/{return,length,success,offset}``: series with an entry per episode.

    Args:
        metrics: RLlib's MetricsLogger.
        finished: The episodes, oldest first.
    """
    series: dict[str, list[float]] = {
        "return": [episode.episode_return for episode in finished],
        "length": [episode.length for episode in finished],
        "success": [episode.success for episode in finished],
        "offset": [episode.offset for episode in finished],
    }
    for key, values in series.items():
        log_values(metrics, (EPISODES_KEY, key), values, reduce="item_series")


def log_learned(metrics: Any, returns: Sequence[float], window: int) -> None:
    """Logs ``learning_return_mean``, if the environment gives other rewards to learn from.

    Args:
        metrics: RLlib's MetricsLogger.
        returns: Sums of ``learning_reward`` of finished episodes, oldest first.
        window: Number of the latest episodes in the mean.
    """
    if returns:
        latest = returns[-window:]
        log_values(metrics, LEARNING_RETURN_MEAN, latest, reduce="mean", window=window)


def log_rllibs_episode_metrics(metrics: Any, finished: list[FinishedEpisode], window: int) -> None:
    """Logs the same episode metrics as RLlib's own runner.

    Args:
        metrics: RLlib's MetricsLogger.
        finished: The episodes, oldest first.
        window: Number of the latest episodes in the means, minima and maxima.
    """
    latest = finished[-window:]
    lengths = [episode.length for episode in latest]
    returns = [episode.episode_return for episode in latest]
    durations = [episode.duration_s for episode in latest]
    series: list[tuple[Any, list[Any], str]] = [
        (EPISODE_LEN_MEAN, lengths, "mean"),
        (EPISODE_RETURN_MEAN, returns, "mean"),
        (EPISODE_DURATION_SEC_MEAN, durations, "mean"),
        (("agent_episode_return_mean", DEFAULT_AGENT_ID), returns, "mean"),
        (("module_episode_return_mean", DEFAULT_MODULE_ID), returns, "mean"),
        (EPISODE_LEN_MIN, lengths, "min"),
        (EPISODE_RETURN_MIN, returns, "min"),
        (EPISODE_LEN_MAX, lengths, "max"),
        (EPISODE_RETURN_MAX, returns, "max"),
    ]
    for key, values, reduce in series:
        log_values(metrics, key, values, reduce=reduce, window=window)


def success_of(info: Mapping[str, Any]) -> float:
    """Reads the success of an episode from its last info; nan if the info does not say.

    Example:
        >>> success_of({"is_success": True}), success_of({})
        (1.0, nan)
    """
    for key in SUCCESS_KEYS:
        if info.get(key) is not None:
            return as_number(info[key], key)
    return math.nan


def vector_successes(infos: Mapping[str, Any], num_envs: int) -> np.ndarray | None:
    """`success_of` each environment, from a vector environment's infos.

    Returns:
        [N], nan where an environment does not say; None if none does.

    Example:
        >>> infos = {"success": np.array([0.0, 0.5]), "_success": np.array([False, True])}
        >>> vector_successes(infos, 2)
        array([nan, 0.5])
    """
    successes = None
    # The first key wins, so its values are written last.
    for key in reversed(SUCCESS_KEYS):
        given = vector_info(infos, key, num_envs)
        if given is not None:
            successes = np.where(given[1], given[0], math.nan if successes is None else successes)
    return successes


def vector_success(infos: Mapping[str, Any], slot: int, num_envs: int) -> float:
    """`success_of` environment ``slot``, from a vector environment's infos."""
    successes = vector_successes(infos, num_envs)
    return math.nan if successes is None else float(successes[slot])
