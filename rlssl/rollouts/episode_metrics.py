"""What both EnvRunners record of every finished game: return, length, success, when, how long."""

import math
import time
from collections.abc import Mapping
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

from rlssl.ray_internals.env_runner import log_values

#: Key under which the series are logged; each value is a list with one entry a game.
EPISODES_KEY = "rlssl_episodes"

#: Keys of an environment's info that tell whether the game was won, in order of preference.
SUCCESS_KEYS = ("success", "is_success")


class FinishedEpisode(NamedTuple):
    """One whole game, whatever the number of learning episodes it was split into."""

    # Sum of the environment's own rewards, neither clipped nor discounted.
    episode_return: float
    # Agent steps.
    length: int
    # 1.0 or 0.0, or a fraction where the environment gives one; nan where it does not tell.
    success: float
    # Agent steps that this runner had sampled at the game's end since its last `get_metrics()`.
    offset: int
    # Seconds since the game's reset.
    duration_s: float


class EpisodeLog:
    """Running scores of N environments, and the games finished since the last `drain()`."""

    def __init__(self, num_envs: int) -> None:
        self._finished: list[FinishedEpisode] = []
        self._steps = 0
        self.restart(num_envs)

    def restart(self, num_envs: int, *, lost_steps: int = 0) -> None:
        """Forgets the unfinished games.

        Args:
            num_envs: N from now on.
            lost_steps: Agent steps counted by `step` that will not be returned by the runner.
        """
        self._steps -= lost_steps
        self._returns = np.zeros(num_envs, np.float64)
        self._lengths = np.zeros(num_envs, np.int64)
        # Which environments stepped in the last vector step of theirs.
        self._stepped = np.zeros(num_envs, np.bool_)
        self._started_s = np.full(num_envs, time.perf_counter())

    def forget(self, slots: list[int], *, lost_steps: int) -> None:
        """Forgets the unfinished games of some environments.

        Args:
            slots: Which.
            lost_steps: Of their agent steps, those that will not be returned by the runner.
        """
        self._steps -= lost_steps
        self._returns[slots] = self._lengths[slots] = 0
        self._started_s[slots] = time.perf_counter()

    def step(self, rewards: np.ndarray, stepped: np.ndarray, slots: slice, count: int) -> None:
        """Counts one vector step of n environments.

        Args:
            rewards: [n], the environment's own; 0 where the step was the reset of an autoreset.
            stepped: [n], bool; False where the step was the reset of an autoreset.
            slots: Which environments they are.
            count: How many stepped.
        """
        self._returns[slots] += rewards
        self._lengths[slots] += stepped
        self._stepped[slots] = stepped
        self._stop = slots.stop
        self._steps += count

    def finish(self, slot: int, success: float) -> None:
        """Closes the game of environment ``slot`` at the step counted last.

        Environments count one after the other, as in RLlib's loop: no two games share an offset.
        """
        now = time.perf_counter()
        self.add(
            episode_return=float(self._returns[slot]),
            length=int(self._lengths[slot]),
            success=success,
            offset=self._steps - int(np.count_nonzero(self._stepped[slot + 1 : self._stop])),
            duration_s=now - float(self._started_s[slot]),
        )
        self._returns[slot] = self._lengths[slot] = 0
        self._started_s[slot] = now

    def add(self, **fields: Any) -> None:
        """Adds a game that was counted elsewhere; the fields are those of `FinishedEpisode`."""
        self._finished.append(FinishedEpisode(**fields))

    def drain(self) -> list[FinishedEpisode]:
        """Returns the finished games, oldest first, and starts over: offsets count from 0."""
        finished, self._finished = self._finished, []
        self._steps = 0
        return finished


def log_finished(metrics: Any, finished: list[FinishedEpisode]) -> None:
    """Logs each game under ``rlssl_episodes/{return,length,success,offset}``, as equal series.

    Args:
        metrics: RLlib's MetricsLogger.
        finished: The games, oldest first.
    """
    series: dict[str, list[float]] = {
        "return": [episode.episode_return for episode in finished],
        "length": [episode.length for episode in finished],
        "success": [episode.success for episode in finished],
        "offset": [episode.offset for episode in finished],
    }
    for key, values in series.items():
        log_values(metrics, (EPISODES_KEY, key), values, reduce="item_series")


def log_rllibs_episode_metrics(metrics: Any, finished: list[FinishedEpisode], window: int) -> None:
    """Logs what RLlib's own runner logs of each game.

    Args:
        metrics: RLlib's MetricsLogger.
        finished: The games, oldest first.
        window: How many of the last games RLlib's means are over.
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
    """Reads the success of a game from its last info; nan where the environment does not tell."""
    for key in SUCCESS_KEYS:
        if info.get(key) is not None:
            return float(info[key])
    return math.nan


def vector_info(
    infos: Mapping[str, Any], key: str, num_envs: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads one key of a vector environment's infos, as of the steps taken.

    Args:
        infos: As gymnasium's vector environments give them: ``key`` -> [N] and, where not every
            environment gave the key, ``_key`` -> [N], bool. With SAME_STEP autoreset the steps that
            ended a game have theirs under ``final_info``.
        key: What to read.
        num_envs: N.

    Returns:
        The values, [N], and which of them were given, [N], bool; None where nobody gave the key.
    """
    final = infos.get("final_info")
    if final is None:
        return _given(infos, key, num_envs)
    ended = np.asarray(infos["_final_info"], np.bool_)
    nothing = np.zeros(num_envs), np.zeros(num_envs, np.bool_)
    of_last, of_others = _given(final, key, num_envs), _given(infos, key, num_envs)
    if of_last is None and of_others is None:
        return None
    (last, last_given), (others, others_given) = of_last or nothing, of_others or nothing
    return np.where(ended, last, others), np.where(ended, last_given, others_given)


def _given(
    infos: Mapping[str, Any], key: str, num_envs: int
) -> tuple[np.ndarray, np.ndarray] | None:
    if key not in infos:
        return None
    given = infos.get(f"_{key}")
    mask = np.ones(num_envs, np.bool_) if given is None else np.asarray(given, np.bool_)
    return np.asarray(infos[key]), mask


def vector_success(infos: Mapping[str, Any], slot: int, num_envs: int) -> float:
    """As `success_of`, for environment ``slot`` of a vector environment's infos."""
    info = {}
    for key in SUCCESS_KEYS:
        given = vector_info(infos, key, num_envs)
        if given is not None and given[1][slot]:
            info[key] = given[0][slot]
    return success_of(info)
