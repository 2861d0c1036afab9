"""Environments that render: which options they need, and the frames that they give."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.environments.building import check_env_options
from rlssl.errors import SpecError
from rlssl.evaluation import begin_episode, evaluation_env
from rlssl.system.random_state import undisturbed_generators
from rlssl.video.frames import Frame

#: Frames a second of an environment whose metadata do not say it.
DEFAULT_FPS = 30.0

#: The option with which gymnasium's environments render into arrays.
_OPTION = {"render_mode": "rgb_array"}


@undisturbed_generators()
def with_rendering(env: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """The options with which an environment renders; it is built, reset and rendered once.

    Args:
        env: ``{"id": ..., **options}``.

    Returns:
        The options, with ``render_mode`` if the environment needs it, and frames a second.

    Raises:
        SpecError: If the environment does not render into arrays of colors; says why.

    Example:
        >>> with_rendering({"id": "CartPole-v1"})
        ({'id': 'CartPole-v1', 'render_mode': 'rgb_array'}, 50.0)
    """
    _use_no_screen()
    plain = {key: value for key, value in env.items() if key not in _OPTION}
    reasons = []
    for options in ({**plain, **_OPTION}, plain):
        try:
            check_env_options(options)
            return options, _tried(options)
        # An environment of a user or a suite may raise anything in its constructor or `render`.
        except Exception as error:
            words = f"{type(error).__name__}: {error}".strip(" :")
            reasons.append(words.splitlines()[0])
    # Without the option, the second reason is the one that matters.
    reason = reasons["render_mode" in reasons[0]].rstrip(".")
    raise SpecError(
        f"environment {env['id']!r} does not render: {reason}. A video needs an environment "
        "that takes render_mode='rgb_array', and whose render() then returns uint8 [H, W, 3]."
    )


def _use_no_screen() -> None:
    """Lets pygame draw without a screen and without sound, on a machine that has no screen."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
            os.environ.setdefault(name, "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")


def _tried(options: Mapping[str, Any]) -> float:
    env = evaluation_env(options, 0)
    try:
        begin_episode(env, 0)
        frame_of(env)
        fps = float((env.metadata or {}).get("render_fps") or DEFAULT_FPS)
        return fps if np.isfinite(fps) and fps > 0 else DEFAULT_FPS
    finally:
        env.close()


def frame_of(env: gym.Env) -> Frame:
    """The present frame of an environment: uint8 [H, W, 3], a copy.

    Raises:
        SpecError: If ``render()`` returns something else.

    Example:
        >>> env = gym.make("CartPole-v1", render_mode="rgb_array")
        >>> _ = env.reset(seed=0)
        >>> frame_of(env).shape
        (400, 600, 3)
    """
    rendered: Any = env.render()
    if isinstance(rendered, list) and rendered:
        rendered = rendered[-1]  # render_mode rgb_array_list
    frame = np.asarray(rendered)
    if frame.ndim == 2:
        frame = np.repeat(frame[:, :, None], 3, axis=2)
    if frame.ndim != 3 or frame.shape[2] not in (3, 4) or frame.dtype != np.uint8:
        kind = type(rendered).__name__ if rendered is None else f"{frame.dtype} {frame.shape}"
        raise SpecError(f"render() returned {kind}, not uint8 [H, W, 3]")
    return np.array(frame[:, :, :3], order="C")
