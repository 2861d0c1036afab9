"""memory/cue: its observations, its question and its rewards."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlssl.environments.building import make_env
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins

load_plugins(["rlssl_envs"])


def make(**options: Any) -> gym.Env:
    return make_env({"id": "memory/cue", **options})


def test_is_a_gymnasium_environment() -> None:
    check_env(make(num_distractors=2), skip_render_check=True)


def test_cue_is_shown_once_and_the_signal_comes_after_the_delay() -> None:
    env = make(num_cues=3, delay=2)
    observation, _ = env.reset(seed=0)
    shown = [observation]
    cue = int(observation.argmax())
    for _ in range(2):
        observation, reward, terminated, truncated, info = env.step(cue)
        assert (reward, terminated, truncated, info) == (0.0, False, False, {})
        shown.append(observation)
    _, reward, terminated, truncated, info = env.step(cue)
    assert (reward, terminated, truncated, info) == (1.0, True, False, {"success": True})
    np.testing.assert_array_equal(shown, [np.eye(4)[cue], [0, 0, 0, 0], [0, 0, 0, 1]])


def test_only_the_last_action_counts() -> None:
    env = make(num_cues=3, delay=2)
    observation, _ = env.reset(seed=0)
    cue = int(observation.argmax())
    for action in (cue, cue, (cue + 1) % 3):
        _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info) == (0.0, True, {"success": False})


def test_cues_are_equally_likely_and_seeded() -> None:
    env = make()
    env.reset(seed=3)
    cues = [int(env.reset()[0].argmax()) for _ in range(2000)]
    # Binomial: 500 +- 19; four standard deviations.
    assert all(abs(count - 500) < 78 for count in np.bincount(cues, minlength=4))
    np.testing.assert_array_equal(env.reset(seed=7)[0], make().reset(seed=7)[0])


def test_every_step_has_new_distractors() -> None:
    env = make(num_distractors=1000, delay=1)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(0)
    assert first.shape == (1005,)
    assert abs(first[5:].mean()) < 0.13 and abs(first[5:].std() - 1) < 0.1
    assert abs(np.corrcoef(first[5:], second[5:])[0, 1]) < 0.13
    assert env.observation_space.contains(second)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_cues": 1}, "env.num_cues must be a whole number >= 2; got 1."),
        ({"delay": 0}, "env.delay must be a whole number >= 1; got 0."),
        ({"delay": 2.5}, "env.delay must be a whole number; got 2.5."),
        ({"delays": 3}, "unknown option env.delays of memory/cue; did you mean 'delay'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(**options)


def test_unknown_task_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="memory/cue"):
        make_env({"id": "memory/cues"})
