"""MinAtar (Young and Tian 2019, arXiv:1903.03176) as ``minatar/<Game>``.

Games: Asterix, Breakout, Freeway, Seaquest, SpaceInvaders (``minatar/space_invaders`` is the same).
Observations: uint8 [C, 10, 10], 0 or 1, with C = 4 to 10 planes by game.

Options, ``env: {id: minatar/Breakout, sticky_action_prob: 0.1}``:

- ``sticky_action_prob``: probability that the last action is repeated instead; [0, 1]; default
  0.1, as in MinAtar.
- ``difficulty_ramping``: whether the game gets harder over time; default true, as in MinAtar.
- ``minimal_action_set``: only the actions that have an effect in the game; default true. False: all
  six.
- ``max_episode_steps``: agent steps after which an episode is truncated; default 5000. Null: no
  truncation, as in MinAtar, where an episode of Breakout lasts until the ball is lost.
"""

import colorsys
import importlib.util
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TimeLimit

from rlssl.environments import known_env_options
from rlssl.errors import SpecError, unknown_name

if importlib.util.find_spec("minatar") is None:
    raise ModuleNotFoundError("No module named 'minatar'", name="minatar")

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}

DEFAULTS = {
    "sticky_action_prob": 0.1,
    "difficulty_ramping": True,
    "minimal_action_set": True,
    "max_episode_steps": 5000,
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
    options = known_env_options(config, DEFAULTS)
    limit = options.pop("max_episode_steps")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise SpecError(f"env.max_episode_steps must be an integer >= 1 or null; got {limit!r}.")
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

        if not 0 <= sticky_action_prob <= 1:
            raise SpecError(f"env.sticky_action_prob must be in [0, 1]; got {sticky_action_prob}.")
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
