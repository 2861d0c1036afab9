"""The noisy TV: what it shows, and what it must not change."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.environments.building import make_env, make_vector_env
from rlssl.environments.env_check import preflight
from rlssl.errors import SpecError
from tests.experiment.spec.specs import refused

pytest.importorskip("minigrid")

NAME = "MiniGrid-DoorKey-6x6-v0"
#: MiniGrid's actions: left, right, forward, pickup, drop, toggle, done. Then that of the TV.
WATCH = 7
MOVES = [2, 2, 1, 2, 3, 0, 2, 5, 2, 2]


def built(trigger: str | None, **options: Any) -> Any:
    tv = None if trigger is None else {"trigger": trigger}
    return make_env({"id": NAME, "noisy_tv": tv, **options})


def play(env: gym.Env, actions: Sequence[int], seed: int | None = 3) -> list[Any]:
    """Observations, rewards and grids of an episode."""
    seen = [(env.reset(seed=seed)[0], 0.0, state_of(env))]
    for action in actions:
        observation, reward, *_ = env.step(action)
        seen.append((observation, float(reward), state_of(env)))
    return [np.stack(part) for part in zip(*seen, strict=True)]


def state_of(env: gym.Env) -> np.ndarray:
    inner: Any = env.unwrapped
    return np.append(inner.grid.encode().ravel(), [*inner.agent_pos, inner.agent_dir])


@pytest.mark.parametrize("observation", ["grid", "flat", "pixels"])
def test_an_action_shows_random_tiles_and_changes_nothing(observation: str) -> None:
    env, plain = built("action", observation=observation), built(None, observation=observation)
    assert env.observation_space == plain.observation_space
    assert env.action_space == gym.spaces.Discrete(8)
    for ours, theirs in zip(play(env, MOVES), play(plain, MOVES), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    frames, rewards, states = play(env, [2, WATCH, WATCH, WATCH])
    assert frames.dtype == np.uint8 and all(frame in env.observation_space for frame in frames)
    for shown, last in ((frames[2], frames[1]), (frames[3], frames[2]), (frames[4], frames[3])):
        assert (shown != last).any()
    assert (states[2:] == states[1]).all() and not rewards.any()


@pytest.mark.parametrize("observation", ["grid", "flat", "pixels"])
def test_a_place_shows_random_tiles_and_changes_nothing(observation: str) -> None:
    env, plain = built("place", observation=observation), built(None, observation=observation)
    assert env.action_space == plain.action_space
    assert env.observation_space == plain.observation_space
    # Turning around shows every place of a small grid.
    turns = [1] * 16
    differences = 0
    for seed in range(5):
        frames, rewards, states = play(env, turns, seed)
        expected, their_rewards, their_states = play(plain, turns, seed)
        np.testing.assert_array_equal(rewards, their_rewards)
        np.testing.assert_array_equal(states, their_states)
        changed = frames != expected
        differences += int(changed.reshape(len(frames), -1).any(axis=1).sum())
        if observation == "grid":
            # At most one tile of a view is another one.
            assert changed.any(axis=1).sum(axis=(1, 2)).max() <= 1
    assert differences > 0


@pytest.mark.parametrize("trigger", ["action", "place"])
def test_a_seed_repeats_what_is_shown(trigger: str) -> None:
    env = built(trigger)
    actions = [WATCH] * 5 if trigger == "action" else [1] * 12
    first, second = play(env, actions)[0], play(env, actions, seed=None)[0]
    np.testing.assert_array_equal(play(env, actions)[0], first)
    np.testing.assert_array_equal(play(env, actions, seed=None)[0], second)
    np.testing.assert_array_equal(play(built(trigger), actions)[0], first)
    assert (play(env, actions, seed=4)[0] != first).any()


def test_copies_show_different_tiles_and_those_of_single_environments() -> None:
    env = {"id": NAME, "noisy_tv": {}}
    vector: Any = make_vector_env(env, num_envs=2)
    vector.reset(seed=[3, 4])
    shown = vector.step(np.array([WATCH, WATCH]))[0]
    vector.close()
    assert (shown[0] != shown[1]).any()
    for copy, seed in enumerate((3, 4)):
        np.testing.assert_array_equal(shown[copy], play(built("action"), [WATCH], seed)[0][1])


def test_watching_takes_steps_of_the_episode() -> None:
    env = built("action", max_steps=3)
    env.reset(seed=0)
    ends = [env.step(WATCH)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    env.reset(seed=0)
    assert [env.step(action)[3] for action in (0, WATCH, 0)] == [False, False, True]


def test_a_run_sees_the_additional_action() -> None:
    assert preflight({"id": NAME, "noisy_tv": {}}).action_space == gym.spaces.Discrete(8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (True, "env.noisy_tv must be options, as {trigger: action}; got True"),
        ({"triggers": "place"}, "unknown option env.noisy_tv.triggers; did you mean 'trigger'"),
        ({"trigger": "button"}, "env.noisy_tv.trigger must be action or place; got 'button'"),
    ],
)
def test_wrong_options_are_refused_in_words(options: Any, words: str) -> None:
    assert words in refused({"env": {"id": NAME, "noisy_tv": options}})


def test_other_environments_refuse_it() -> None:
    words = "env.noisy_tv needs an environment of MiniGrid or BabyAI"
    with pytest.raises(SpecError, match=words):
        make_env({"id": "CartPole-v1", "noisy_tv": {}})
    with pytest.raises(SpecError, match=words):
        make_vector_env({"id": "CartPole-v1", "noisy_tv": {}}, num_envs=2)
