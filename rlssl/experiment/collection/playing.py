"""Plays one episode after the other, each as its number says."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.data import Episode
from rlssl.environments.building import make_env
from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch
from rlssl.errors import EnvironmentFaultError
from rlssl.evaluation import STEP_TIMEOUT_S, EpisodeRecord, begin_episode
from rlssl.experiment.collection.acting import make_actor
from rlssl.experiment.collection.recording import Recording
from rlssl.experiment.collection.tape import Tape
from rlssl.rollouts.episode_metrics import success_of
from rlssl.system.random_state import undisturbed_generators
from rlssl.system.seeding import seed_episode


@dataclass(frozen=True)
class PlayedEpisode:
    """An episode of the environment."""

    # Score and length with the rewards of the environment.
    record: EpisodeRecord
    # What is recorded: several episodes if the environment says where learning splits them.
    recorded: list[Episode]


class Player:
    """Plays the episodes of a recording in one environment, in any order.

    Args:
        recording: What is played.

    Raises:
        SpecError: The policy is for another environment.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._env = built(recording)
        self._random_actions = copy.deepcopy(self._env.action_space)
        self._actor = make_actor(recording, self._env, self._random_actions)
        self._watch = TimeoutWatch()

    def play(self, index: int) -> PlayedEpisode:
        """Plays an episode, which depends on its number only.

        Raises:
            EnvironmentFaultError: If a step takes too long.
        """
        with undisturbed_generators():
            try:
                return self._watch.call(STEP_TIMEOUT_S, self._play, index)
            except EnvironmentTimeoutError as error:
                raise EnvironmentFaultError(
                    f"environment {self._recording.env['id']!r} timed out after "
                    f"{STEP_TIMEOUT_S:g} s in episode {index}."
                ) from error

    def close(self) -> None:
        """Closes the environment."""
        self._watch.stop()
        self._env.close()

    def _play(self, index: int) -> PlayedEpisode:
        choices = self._recording.choices
        seed = self._recording.episode_seed(index)
        coins = self._seeded_noise(index)
        observation, _ = begin_episode(self._env, seed)
        self._actor.reset(observation)
        tape = Tape(observation, keeps_actions=choices.actions)
        action, score, length, ended = None, 0.0, 0, False
        success, counts_any = math.nan, self._recording.policy.success == "any"
        while not ended:
            action = self._actor.act(observation, action)
            if coins is not None and coins.random() < choices.noise:
                action = self._random_actions.sample()
            observation, reward, terminated, truncated, info = self._step(action)
            score, length = score + float(reward), length + 1
            truncated = truncated or (not terminated and length == choices.max_episode_steps)
            ends = {"terminated": bool(terminated), "truncated": bool(truncated)}
            tape.add(action, reward, info, observation, **ends)
            now = success_of(info)
            success = float(np.fmax(success, now)) if counts_any else now
            ended = terminated or truncated
        record = EpisodeRecord(seed=seed, score=score, length=length, success=success)
        return PlayedEpisode(record, tape.episodes)

    def _step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._watch.heartbeats += 1
        # A copy, because an environment may clip the array in place.
        observation, reward, terminated, truncated, info = self._env.step(copy.deepcopy(action))
        return observation, float(reward), terminated, truncated, info

    def _seeded_noise(self, index: int) -> np.random.Generator | None:
        """Seeds the random actions; returns what decides where they are taken."""
        seed = self._recording.actions_seed(index)
        self._random_actions.seed(seed)
        return np.random.default_rng([seed, 1]) if self._recording.choices.noise else None


def built(recording: Recording) -> gym.Env:
    """Builds the environment of a recording."""
    first = recording.episode_seed(0)
    with undisturbed_generators():
        seed_episode(first)
        return make_env(recording.env, split=recording.choices.split, seed=first)
