"""Which environments render, and with which options."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlssl
from rlssl.errors import SpecError
from rlssl.registry import ENVIRONMENTS
from rlssl.video.rendering import frame_of, with_rendering

RENDERED = [
    ("CartPole-v1", True, 50.0),
    ("Pendulum-v1", True, 30.0),
    ("MiniGrid-Empty-5x5-v0", True, 10.0),
    ("atari/Pong", True, 15.0),  # 60 frames a second, 4 of them a step
    ("minatar/Breakout", False, 15.0),
    ("dmc/cartpole-swingup", False, 12.5),
    ("dmc-pixels/cartpole-swingup", False, 12.5),
]


@pytest.mark.parametrize(("name", "has_option", "fps"), RENDERED)
def test_suites_render(name: str, has_option: bool, fps: float) -> None:
    options, found = with_rendering({"id": name})
    assert options == {"id": name, **({"render_mode": "rgb_array"} if has_option else {})}
    assert found == pytest.approx(fps)


@pytest.mark.parametrize("game", ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"])
def test_minatar_shows_every_plane_in_its_color(game: str) -> None:
    env = rlssl.make_env(f"minatar/{game}")
    observation, _ = env.reset(seed=0)
    frame = frame_of(env)
    assert frame.shape == (10, 10, 3)
    assert ((frame.max(axis=2) > 0) == (observation.max(axis=0) > 0)).all()


class Plain(gym.Env[np.ndarray, Any]):
    """A user's environment that renders what ``picture`` is."""

    observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)
    picture: Any = None

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, True, False, {}

    def render(self) -> Any:
        if isinstance(self.picture, Exception):
            raise self.picture
        return self.picture if self.render_mode == "rgb_array" else None


@pytest.fixture
def user_env(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ENVIRONMENTS, "_entries", dict(ENVIRONMENTS._entries))
    monkeypatch.setattr(ENVIRONMENTS, "_local", set(ENVIRONMENTS._local))
    rlssl.register_env("mine/Plain", Plain)
    return "mine/Plain"


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4)])
def test_users_environments_render_gray_colors_or_with_transparency(
    user_env: str, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(Plain, "picture", np.zeros(shape, np.uint8))
    options, fps = with_rendering({"id": user_env})
    assert (options["render_mode"], fps) == ("rgb_array", 30.0)
    assert frame_of(Plain("rgb_array")).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (None, "render() returned NoneType, not uint8"),
        (np.zeros((4, 5, 3)), "render() returned float64 (4, 5, 3)"),
        ("words", "render() returned <U5 ()"),
        (RuntimeError("no GPU\nsecond line"), "RuntimeError: no GPU"),
    ],
)
def test_an_environment_that_does_not_render_is_refused_with_the_reason(
    user_env: str, monkeypatch: pytest.MonkeyPatch, picture: Any, reason: str
) -> None:
    monkeypatch.setattr(Plain, "picture", picture)
    with pytest.raises(SpecError) as caught:
        with_rendering({"id": user_env})
    message = str(caught.value)
    assert "environment 'mine/Plain' does not render: " in message
    assert reason in message and "\n" not in message


def test_a_suite_without_pictures_says_so() -> None:
    with pytest.raises(SpecError, match=r"'memory/cue' does not render: NotImplementedError\. A"):
        with_rendering({"id": "memory/cue"})


def test_a_frame_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(Plain, "picture", screen)
    frame = frame_of(Plain("rgb_array"))
    screen[:] = 9  # an environment may draw into the same array again
    assert frame.max() == 0
