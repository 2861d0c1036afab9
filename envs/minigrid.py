"""MiniGrid and BabyAI (Chevalier-Boisvert et al. 2023, arXiv:2306.13831), by their gymnasium ids.

Options: `rlssl_envs.options.MiniGrid`.

Every view is egocentric: the agent looks up from the middle of the bottom row; row 0 is the top.
The text of the mission is not observed, so BabyAI levels with varying missions (most ``GoTo...``
and ``Pickup...``) cannot be solved better than by chance. ``info["success"]`` of the last step says
whether the episode terminated with a reward > 0.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from rlssl.environments import env_options

# pygame prints a greeting to stdout, where rlssl prints its tables.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import minigrid  # noqa: F401  (registers its ids with gymnasium)
from minigrid.core.constants import (
    COLOR_TO_IDX,
    OBJECT_TO_IDX,
    STATE_TO_IDX,
)

#: Planes of a grid observation, in this order: 11 objects, 6 colors, 3 door states.
PLANES = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))

OBSERVATIONS = ("grid", "flat", "pixels")


def minigrid_ids() -> list[str]:
    """Lists the ids of MiniGrid."""
    # The reset of the WFC levels fails, because the wheel lacks their images.
    return [name for name in _ids("MiniGrid-") if not name.startswith("MiniGrid-WFC-")]


def babyai_ids() -> list[str]:
    """Lists the ids of BabyAI."""
    return _ids("BabyAI-")


def _ids(prefix: str) -> list[str]:
    return [name for name in gym.registry if name.startswith(prefix)]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds a MiniGrid environment with one of the observations of this module.

    Raises:
        SpecError: ``observation`` or ``tile_size`` has a wrong value.
        gymnasium.error.UnregisteredEnv: There is no such id.
    """
    options = env_options(config)
    keys = ("observation", "tile_size")
    view = {key: value for key in keys if (value := options.pop(key, None)) is not None}
    return PartialView(gym.make(config["id"], disable_env_checker=True, **options), **view)


class PartialView(gym.Wrapper, RecordConstructorArgs):
    """Replaces MiniGrid's dict by one array, and reports whether the task was solved."""

    def __init__(self, env: gym.Env, observation: str = "grid", tile_size: int = 8) -> None:
        """Wraps any environment of MiniGrid.

        Args:
            env: An environment with MiniGrid's observation dict.
            observation: See the module.
            tile_size: See the module.
        """
        RecordConstructorArgs.__init__(self, observation=observation, tile_size=tile_size)
        super().__init__(env)
        self._view: Callable[[dict[str, Any]], np.ndarray]
        self._tile_size = tile_size if observation == "pixels" else None
        size = env.observation_space["image"].shape[0]  # type: ignore[index]
        shape = (sum(PLANES), size, size)
        if observation == "pixels":
            side = size * tile_size
            self.observation_space = Box(0, 255, (3, side, side), np.uint8)
            self._view = functools.partial(_draw, env.unwrapped, tile_size)
        elif observation == "flat":
            self.observation_space = Box(0, 1, (math.prod(shape),), np.uint8)
            self._view = functools.partial(_bits, _plane_offsets(size))
        else:
            self.observation_space = Box(0, 1, shape, np.uint8)
            offsets = _plane_offsets(size)
            self._view = lambda observed: _bits(offsets, observed).reshape(shape)

    def observe(self) -> np.ndarray:
        """The observation of the present state."""
        return self._view(self.env.unwrapped.gen_obs())  # type: ignore[attr-defined]

    def show(self, grid: Any) -> np.ndarray:
        """The observation if the agent's view were this grid, all of which it sees.

        Args:
            grid: MiniGrid's ``Grid`` with the sides of the agent's view.
        """
        if self._tile_size is None:
            return self._view({"image": grid.encode()})
        side = grid.width
        seen = np.ones((side, side), np.bool_)
        frame = grid.render(self._tile_size, (side // 2, side - 1), 3, highlight_mask=seen)
        return np.ascontiguousarray(frame.transpose(2, 0, 1))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode."""
        observed, info = self.env.reset(seed=seed, options=options)
        return self._view(observed), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step; the last step of an episode has ``info["success"]``."""
        observed, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info["success"] = bool(terminated and float(reward) > 0)
        return self._view(observed), float(reward), terminated, truncated, info


def _plane_offsets(size: int) -> np.ndarray:
    """Index of the bit for value 0 of each number in MiniGrid's image: [size, size, 3].

    The image is [column, row, (object, color, state)]; the planes are [20, row, column]. The bit of
    value v is v planes, of ``size * size`` bits each, after the bit of value 0.
    """
    first_plane = np.cumsum([0, *PLANES[:-1]])
    column, row, part = np.ogrid[:size, :size, :3]
    return first_plane[part] * size * size + row * size + column


def _bits(offsets: np.ndarray, observed: dict[str, Any]) -> np.ndarray:
    """The bits of MiniGrid's OneHotPartialObsWrapper, without its loop: [20 * size * size]."""
    plane = offsets.shape[0] * offsets.shape[1]
    bits = np.zeros(sum(PLANES) * plane, np.uint8)
    bits[offsets + observed["image"].astype(np.intp) * plane] = 1
    return bits


def _draw(env: Any, tile_size: int, observed: dict[str, Any]) -> np.ndarray:
    """The view as MiniGrid draws it from the environment's state: [3, side, side]."""
    frame = env.get_frame(tile_size=tile_size, agent_pov=True)
    return np.ascontiguousarray(frame.transpose(2, 0, 1))
