from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlssl.environments.building import make_env
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins

pytest.importorskip("minatar", reason="needs rlssl[minatar]")
load_plugins(["rlssl_envs"])


@pytest.mark.parametrize(
    # Planes and minimal actions: table 1 of Young and Tian and the games' own lists.
    ("game", "planes", "actions"),
    [
        ("Asterix", 4, 5),
        ("Breakout", 4, 3),
        ("Freeway", 7, 3),
        ("Seaquest", 10, 6),
        ("SpaceInvaders", 6, 4),
        ("space_invaders", 6, 4),
    ],
)
def test_game_has_its_planes_first_and_its_minimal_actions(
    game: str, planes: int, actions: int
) -> None:
    env = make_env({"id": f"minatar/{game}"})
    assert env.observation_space.shape == (planes, 10, 10)
    assert env.observation_space.dtype == np.uint8
    assert env.action_space == Discrete(actions)


def test_breakout_starts_as_its_rules_say() -> None:
    observation, _ = make_env({"id": "minatar/Breakout"}).reset(seed=0)
    paddle, ball, _, brick = observation
    assert np.argwhere(paddle).tolist() == [[9, 4]]  # bottom row, column 4
    assert np.argwhere(ball).tolist() in ([[3, 0]], [[3, 9]])  # row 3, at one of the walls
    assert brick[1:4].all() and brick.sum() == 30  # three rows of ten


def test_minimal_actions_mean_the_same_as_in_the_full_set() -> None:
    # Breakout's minimal set is none, left, right: 0, 1, 3 of the six.
    plain = {"id": "minatar/Breakout", "sticky_action_prob": 0.0}
    minimal = make_env(plain)
    full = make_env({**plain, "minimal_action_set": False})
    assert full.action_space == Discrete(6)
    minimal.reset(seed=0)
    full.reset(seed=0)
    for few, of_six in ((1, 1), (2, 3), (2, 3), (0, 0)):
        np.testing.assert_array_equal(minimal.step(few)[0], full.step(of_six)[0])


def test_seeded_episode_does_not_depend_on_the_one_before() -> None:
    env = make_env({"id": "minatar/Breakout", "sticky_action_prob": 1.0})
    first, _ = env.reset(seed=5)
    quiet = [env.step(2)[0] for _ in range(3)]
    # With sticky probability 1 and no action before, "right" is never executed: the paddle stays.
    assert all(observation[0, 9, 4] for observation in quiet)
    unwrapped: Any = env.unwrapped
    unwrapped._game.last_action = 3
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    for before in quiet:
        np.testing.assert_array_equal(env.step(2)[0], before)


def test_seed_of_more_than_32_bits_is_taken() -> None:
    env = make_env({"id": "minatar/Asterix"})
    env.reset(seed=2**40)


@pytest.mark.parametrize(("option", "limit"), [({}, 5000), ({"max_episode_steps": 7}, 7)])
def test_episode_is_truncated_at_the_limit(option: dict[str, Any], limit: int) -> None:
    env = make_env({"id": "minatar/Freeway", **option})  # terminates after 2500 frames
    assert env.get_wrapper_attr("_max_episode_steps") == limit


def test_episode_without_a_limit_is_not_wrapped() -> None:
    env = make_env({"id": "minatar/Freeway", "max_episode_steps": None})
    assert not env.has_wrapper_attr("_max_episode_steps")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sticky_actions": 0.1}, r"env.sticky_actions of .*did you mean 'sticky_action_prob'"),
        ({"sticky_action_prob": 2}, r"env.sticky_action_prob must be in \[0, 1\]; got 2"),
        (
            {"max_episode_steps": 0},
            "env.max_episode_steps must be a whole number >= 1, or null; got 0",
        ),
    ],
)
def test_bad_option_is_refused_with_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_env({"id": "minatar/Breakout", **options})


def test_unknown_game_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'minatar/Breakout'"):
        make_env({"id": "minatar/Breakot"})
