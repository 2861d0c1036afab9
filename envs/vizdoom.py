"""ViZDoom (Kempka et al. 2016, arXiv:1605.02097) as ``vizdoom/MyWayHome``.

A maze of nine rooms and corridors with a vest in one of them. Finding the vest has reward 1 and
ends the episode; all other rewards are 0. The settings are those of ICM's agent (Pathak et al.
2017, arXiv:1705.05363): the actions are no action, forward, turn right and turn left; observations
are gray frames, uint8 [1, 42, 42], in stacks of 4; an episode is truncated after 2,100 frames. The
final state has no picture, so the last observation repeats the frame before. The last step has
``info["success"]``.

Options: `rlssl_envs.options.ViZDoom`. ``start``: ``dense``, one of the map's 17 points, drawn in
every episode, as in the scenario; ``sparse``, the western dead end; ``very_sparse``, the southern
dead end, which is the farthest from the vest. The direction is always random. `START_POINTS` has
the coordinates.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import vizdoom
from gymnasium.spaces import Box, Discrete
from rlssl_envs.options import ViZDoom

from rlssl.environments import env_options
from rlssl.errors import unknown_name

#: Start -> position in map units; None means any of the 17 points. The fixed starts are those that
#: were published: points 10 and 15 of the map.
START_POINTS: Mapping[str, tuple[float, float] | None] = {
    "dense": None,
    "sparse": (240.0, -176.0),
    "very_sparse": (543.986, -672.089),
}

#: Maximum number of frames of an episode; a second has 35.
MAX_FRAMES = 2_100

#: Action -> button of the scenario that it presses.
ACTIONS = (
    None,
    vizdoom.Button.MOVE_FORWARD,
    vizdoom.Button.TURN_RIGHT,
    vizdoom.Button.TURN_LEFT,
)

SUGGESTED_FRAME_STACK = 4

_POSITION = (
    vizdoom.GameVariable.POSITION_X,
    vizdoom.GameVariable.POSITION_Y,
    vizdoom.GameVariable.ANGLE,
)

#: Weights of red, green and blue in a gray pixel (ITU-R BT.601).
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

#: Draws of a start without success, each with probability 1/17, after which the map must be wrong.
_MAX_DRAWS = 2_000

#: Maximum distance of a player from its start point, in map units.
_TOLERANCE = 1.0


def ids() -> list[str]:
    """Lists the one id."""
    return ["vizdoom/MyWayHome"]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds the maze.

    Raises:
        UnknownNameError: There is no such scenario.
        SpecError: An option is unknown or out of range.
    """
    if config["id"] not in ids():
        raise unknown_name("environment", config["id"], ids())
    return MyWayHome(**vars(ViZDoom(**env_options(config))))


class MyWayHome(gym.Env):
    """The maze of this module."""

    def __init__(self, *, start: str, action_repeat: int, size: int) -> None:
        """Prepares the maze; the first reset starts the game. See the module for options."""
        self.action_repeat = action_repeat
        self.suggested_frame_stack = SUGGESTED_FRAME_STACK
        self.observation_space = Box(0, 255, (1, size, size), np.uint8)
        self.action_space = Discrete(len(ACTIONS))
        self._start = START_POINTS[start]
        self._max_steps = math.ceil(MAX_FRAMES / action_repeat)
        self._steps = 0
        self._game = _game()
        buttons = self._game.get_available_buttons()
        self._presses = [[float(button == action) for button in buttons] for action in ACTIONS]
        width, height = self._game.get_screen_width(), self._game.get_screen_height()
        self._rows, self._columns = _resizing(height, size), _resizing(width, size).T
        self._frame = np.zeros((1, size, size), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode: draws starts until one is at the wanted point.

        Raises:
            RuntimeError: No start was there after many draws, so the map is another one.
        """
        super().reset(seed=seed)
        for _ in range(_MAX_DRAWS):
            self._game.set_seed(int(self.np_random.integers(2**32)))
            self._begin()
            if self._is_at_start():
                self._steps = 0
                return self._observe(), {}
        raise RuntimeError(
            f"no episode began at {self._start} of my_way_home.wad in {_MAX_DRAWS} draws; vizdoom "
            f"{vizdoom.__version__} has another map: install the version of constraints.txt."
        )

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Presses a button for ``action_repeat`` frames."""
        reward = self._game.make_action(self._presses[int(action)], self.action_repeat)
        self._steps += 1
        # The game itself has no time limit.
        terminated = bool(self._game.is_episode_finished())
        truncated = not terminated and self._steps >= self._max_steps
        info = {"success": terminated} if terminated or truncated else {}
        return self._observe(), float(reward), terminated, truncated, info

    def close(self) -> None:
        """Ends the game's process."""
        self._game.close()

    def position(self) -> tuple[float, float, float]:
        """The player's position, x and y in map units, and direction in degrees (east is 0)."""
        x, y, angle = map(self._game.get_game_variable, _POSITION)
        return x, y, angle

    def _begin(self) -> None:
        if self._game.is_running():
            self._game.new_episode()
        else:
            self._game.init()

    def _is_at_start(self) -> bool:
        if self._start is None:
            return True
        x, y, _ = self.position()
        return math.dist((x, y), self._start) <= _TOLERANCE

    def _observe(self) -> np.ndarray:
        state = self._game.get_state()
        if state is not None:
            gray = state.screen_buffer @ _LUMINANCE
            small = self._rows @ gray @ self._columns
            self._frame = np.rint(small).astype(np.uint8)[np.newaxis]
        return self._frame


def _game() -> vizdoom.DoomGame:
    """Builds the scenario, which is not running yet."""
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / "my_way_home.cfg"))
    # Otherwise the engine writes its settings into the current folder.
    game.set_doom_config_path(os.devnull)
    game.set_window_visible(False)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_living_reward(0.0)
    game.set_episode_timeout(0)
    return game


def _resizing(source: int, target: int) -> np.ndarray:
    """The matrix [target, source] that resizes a column of pixels: bilinear with antialiasing."""
    scale = max(1.0, source / target)
    centers = (np.arange(target)[:, np.newaxis] + 0.5) * source / target
    distance = np.abs(np.arange(source) + 0.5 - centers) / scale
    weights = np.clip(1.0 - distance, 0.0, None)
    normalized: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalized
