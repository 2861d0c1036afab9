"""MinAtar (Young and Tian 2019, arXiv:1903.03176) as ``minatar/<Game>``.

Games: Asterix, Breakout, Freeway, Seaquest, SpaceInvaders (``minatar/space_invaders`` is the same).
Observations: uint8 [C, 10, 10], 0 or 1, with C = 4 to 10 planes by game.

Options: `rlssl_envs.options.MinAtar`.
"""

import colorsys
import importlib.util
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TimeLimit
from rlssl_envs.options import MinAtar

from rlssl.environments import env_options
from rlssl.errors import unknown_name

if importlib.util.find_spec("minatar") is None:
    raise ModuleNotFoundError("No module named 'minatar'", name="minatar")

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}


def ids() -> list[str]:
    """Lists the ids of the five games."""
    return [f"minatar/{game}" for game in GAMES]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds a game of MinAtar.

    Raises:
        UnknownNameError: There is no such game.
        SpecError: An option is unknown or out of range.
    """
    wanted = config["id"].removeprefix("minatar/")
    game = GAMES.get(wanted) or (wanted if wanted in GAMES.values() else None)
    if game is None:
        raise unknown_name("environment", config["id"], ids())
    options = vars(MinAtar(**env_options(config))).copy()
    limit = options.pop("max_episode_steps")
    env = MinAtarEnv(game, **options)
    return env if limit is None else TimeLimit(env, limit)


def _colors(count: int) -> np.ndarray:
    """Bright colors of different hues, uint8 [count, 3]."""
    hues = [colorsys.hsv_to_rgb(number / count, 0.7, 1.0) for number in range(count)]
    return np.round(255 * np.array(hues)).astype(np.uint8)


class MinAtarEnv(gym.Env):
    """One game of MinAtar with channels first and reproducible resets."""

    def __init__(
        self,
        game: str,
        *,
        sticky_action_prob: float,
        difficulty_ramping: bool,
        minimal_action_set: bool,
    ) -> None:
        """Builds the game.

        Args:
            game: MinAtar's name, such as ``space_invaders``.
            sticky_action_prob: See the module.
            difficulty_ramping: See the module.
            minimal_action_set: See the module.
        """
        import minatar  # takes seconds, which listing the games does not need

        self._game = minatar.Environment(game, sticky_action_prob, difficulty_ramping)
        minimal = self._game.minimal_action_set()
        self._actions = minimal if minimal_action_set else list(range(self._game.num_actions()))
        height, width, planes = self._game.state_shape()
        self.observation_space = Box(0, 1, (planes, height, width), np.uint8)
        self.action_space = Discrete(len(self._actions))
        self.render_mode = "rgb_array"
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 15}
        self._colors = _colors(planes)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        if seed is not None:
            # RandomState takes 32 bits, but gymnasium's seeds may be longer.
            self._game.seed(int(self.np_random.integers(2**32)))
        self._game.reset()
        # MinAtar does not reset this, so a seeded episode would depend on the one before.
        self._game.last_action = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step; MinAtar itself never truncates a game."""
        reward, terminated = self._game.act(self._actions[int(action)])
        return self._observe(), float(reward), bool(terminated), False, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Returns the frame, uint8 [10, 10, 3]: a color for each plane, the last plane on top."""
        planes = self._observe()
        frame = np.zeros((*planes.shape[1:], 3), np.uint8)
        for plane, color in zip(planes, self._colors, strict=True):
            frame[plane > 0] = color
        return frame

    def _observe(self) -> np.ndarray:
        return np.ascontiguousarray(self._game.state().transpose(2, 0, 1)).view(np.uint8)
