"""vizdoom/MyWayHome: starts, observations, rewards and ends of episodes."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlssl.environments.building import make_env
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins, resolve

pytest.importorskip("vizdoom", reason="needs rlssl[vizdoom]")
load_plugins(["rlssl_envs"])

Make = Callable[..., Any]

NOTHING, FORWARD, RIGHT, LEFT = range(4)

#: Map units: rooms and doors in turn, from the western dead end to the vest.
WAY_HOME = [(464, -176), (575, -172), (687, -173), (687, -62), (694, 58), (871, 55), (1043, 60)]
WAY_HOME += [(1040, -62), (1040, -170), (1040, -352)]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Builds mazes, whose processes end with the test."""
    # The engine leaves an empty folder in the current folder.
    monkeypatch.chdir(tmp_path)
    made: list[gym.Env] = []

    def build(**options: Any) -> gym.Env:
        made.append(make_env({"id": "vizdoom/MyWayHome", **options}))
        return made[-1].unwrapped

    yield build
    for env in made:
        env.close()


def place(env: Any, seed: int | None = None) -> tuple[float, float, float]:
    env.reset(seed=seed)
    position: tuple[float, float, float] = env.position()
    return position


def test_is_a_gymnasium_environment_prepared_as_for_icms_agent(make: Make) -> None:
    env = make()
    check_env(env, skip_render_check=True)
    assert env.observation_space == gym.spaces.Box(0, 255, (1, 42, 42), np.uint8)
    assert env.action_space == gym.spaces.Discrete(4)
    assert (env.action_repeat, env.suggested_frame_stack) == (4, 4)


@pytest.mark.parametrize(
    # The map's points 10 and 15, by its TEXTMAP.
    "start, point",
    [("sparse", (240.0, -176.0)), ("very_sparse", (543.986, -672.089))],
)
def test_every_episode_starts_at_the_wanted_point_in_a_random_direction(
    make: Make, start: str, point: tuple[float, float]
) -> None:
    env = make(start=start)
    places = [place(env, 0), *(place(env) for _ in range(9))]
    assert max(math.dist(place[:2], point) for place in places) < 0.01
    assert len({round(angle) for _, _, angle in places}) > 5


def test_dense_starts_are_all_over_the_map(make: Make) -> None:
    env = make()
    points = {place(env, seed)[:2] for seed in range(200)}
    # 17 points; the chance that one is missing: 17 (16/17)^200 < 1e-4.
    assert len(points) == 17


def test_episodes_depend_on_the_seed_only(make: Make) -> None:
    def played(env: Any) -> list[np.ndarray]:
        frames = [env.reset(seed=3)[0]]
        frames += [env.step(action)[0] for action in (FORWARD, LEFT, FORWARD, FORWARD)]
        return [*frames, env.reset()[0]]

    env = make(start="sparse")
    first = played(env)
    for again in (played(env), played(make(start="sparse"))):
        np.testing.assert_array_equal(first, again)
    assert (env.reset(seed=4)[0] != first[0]).any()


def test_finding_the_vest_ends_the_episode_with_reward_1(make: Make) -> None:
    env = make(start="sparse")
    env.reset(seed=0)
    rewards, steps = 0.0, 0
    for point in WAY_HOME:
        terminated = False
        while not terminated and math.dist(env.position()[:2], point) > 25:
            observation, reward, terminated, truncated, info = env.step(towards(env, point))
            rewards, steps = rewards + reward, steps + 1
            assert not truncated and steps < 200
            assert terminated or (reward == 0.0 and info == {})
    assert terminated and rewards == 1.0 and info == {"success": True}
    assert env.observation_space.contains(observation)


def towards(env: Any, point: tuple[float, float]) -> int:
    """The action of somebody who knows the map."""
    x, y, angle = env.position()
    wanted = math.degrees(math.atan2(point[1] - y, point[0] - x))
    turn = (wanted - angle + 180) % 360 - 180
    if abs(turn) < 10:
        return FORWARD
    return LEFT if turn > 0 else RIGHT


@pytest.mark.parametrize("action_repeat, steps", [(4, 525), (10, 210), (100, 21)])
def test_time_is_up_after_2100_frames_which_is_no_end_of_the_task(
    make: Make, action_repeat: int, steps: int
) -> None:
    env = make(action_repeat=action_repeat)
    for _ in range(2):  # the next episode counts from 0
        env.reset(seed=1)
        for _ in range(steps - 1):
            _, reward, terminated, truncated, info = env.step(NOTHING)
            assert (reward, terminated, truncated, info) == (0.0, False, False, {})
        observation, reward, terminated, truncated, info = env.step(NOTHING)
        assert (reward, terminated, truncated, info) == (0.0, False, True, {"success": False})
        # A truncated episode has a last picture, which its value needs.
        assert observation.max() > 0


def test_actions_move_and_turn_the_player(make: Make) -> None:
    env = make(start="sparse")
    x, y, angle = place(env, 5)
    env.step(NOTHING)
    assert env.position() == (x, y, angle)
    env.step(LEFT)
    turned = env.position()[2]
    assert 0 < (turned - angle) % 360 < 30
    env.step(RIGHT)
    assert 0 < (turned - env.position()[2]) % 360 < 30
    env.step(FORWARD)
    moved = (env.position()[0] - x, env.position()[1] - y)
    heading = math.radians(env.position()[2])
    assert math.hypot(*moved) > 1
    assert moved[0] * math.cos(heading) + moved[1] * math.sin(heading) > 0.99 * math.hypot(*moved)


def test_frames_are_gray_and_resized_with_antialiasing(make: Make) -> None:
    env = make(size=30)
    observed, _ = env.reset(seed=0)
    screen = env._game.get_state().screen_buffer
    assert screen.shape == (120, 160, 3)
    gray = 0.299 * screen[..., 0] + 0.587 * screen[..., 1] + 0.114 * screen[..., 2]
    expected = torch.nn.functional.interpolate(
        torch.tensor(gray)[None, None], (30, 30), mode="bilinear", antialias=True
    )
    # Rounded, of 255.
    assert np.abs(observed[0].astype(float) - expected[0, 0].numpy()).max() <= 0.51


def test_frame_is_not_written_to_by_the_next_step(make: Make) -> None:
    env = make()
    first, _ = env.reset(seed=0)
    kept = first.copy()
    for _ in range(5):
        env.step(LEFT)
    np.testing.assert_array_equal(first, kept)


def test_map_without_the_start_point_is_an_error(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = resolve("rlssl_envs.vizdoom:make").__globals__
    monkeypatch.setitem(module, "START_POINTS", {"sparse": (0.0, 0.0)})
    monkeypatch.setitem(module, "_MAX_DRAWS", 3)
    with pytest.raises(RuntimeError, match=r"no episode began at \(0.0, 0.0\) .* has another map"):
        make(start="sparse").reset(seed=0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"start": "very-sparse"}, "env.start must be 'dense' or 'sparse'.*mean 'very_sparse'"),
        ({"start": ["dense"]}, "env.start must be 'dense' or 'sparse'"),
        ({"action_repeat": 0}, "env.action_repeat must be a whole number >= 1; got 0."),
        ({"size": 42.0}, "env.size must be a whole number; got 42.0."),
        ({"starts": "dense"}, "unknown option env.starts of vizdoom/MyWayHome; did you mean"),
    ],
)
def test_wrong_options_are_refused(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(**options)


def test_unknown_scenario_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="vizdoom/MyWayHome"):
        make_env({"id": "vizdoom/MyWayHom"})
