"""MiniGrid and BabyAI (Chevalier-Boisvert et al. 2023, arXiv:2306.13831), by their gymnasium ids.

Options, ``env: {id: MiniGrid-DoorKey-6x6-v0, observation: grid}``:

- ``observation``: ``grid`` (default), one-hot planes of the agent's partial view, uint8 [20, 7, 7];
  ``flat``, the same as a vector, uint8 [980]; ``pixels``, the view drawn in RGB, uint8 [3, 56, 56].
- ``tile_size``: pixels a cell with ``pixels``; >= 1; default 8.
- everything else goes to ``gymnasium.make``: ``max_steps``, ``agent_view_size``, ``size``, ...

Every view is egocentric (the agent looks up from the middle of the bottom row) and row 0 is the top
row. The mission's text is not part of the observation: BabyAI levels whose mission varies (most
``GoTo...`` and ``Pickup...``) cannot be solved beyond chance without it. ``info["success"]`` comes
with the last step: terminated with a reward > 0.
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
from rlssl.errors import SpecError, did_you_mean

# pygame greets every process on stdout, and the tables that rlssl prints go there.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import minigrid  # noqa: F401  (registers its ids with gymnasium)
from minigrid.core.constants import (
    COLOR_TO_IDX,
    OBJECT_TO_IDX,
    STATE_TO_IDX,
)

#: Planes of a grid observation, in this order: 11 objects, 6 colours, 3 door states.
PLANES = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))

OBSERVATIONS = ("grid", "flat", "pixels")


def minigrid_ids() -> list[str]:
    """Lists the ids of MiniGrid."""
    # The wheel lacks the images from which the WFC levels are drawn: their reset fails.
    return [name for name in _ids("MiniGrid-") if not name.startswith("MiniGrid-WFC-")]


def babyai_ids() -> list[str]:
    """Lists the ids of BabyAI."""
    return _ids("BabyAI-")


def _ids(prefix: str) -> list[str]:
    return [name for name in gym.registry if name.startswith(prefix)]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds a MiniGrid environment with one of the observations of this module.

    Raises:
        SpecError: ``observation`` or ``tile_size`` has a value that means nothing.
        gymnasium.error.UnregisteredEnv: There is no such id.
    """
    options = env_options(config)
    view = {key: options.pop(key) for key in ("observation", "tile_size") if key in options}
    _check(**view)
    return PartialView(gym.make(config["id"], disable_env_checker=True, **options), **view)


def _check(observation: Any = "grid", tile_size: Any = None) -> None:
    if observation not in OBSERVATIONS:
        raise SpecError(
            f"env.observation must be one of {', '.join(OBSERVATIONS)}; got {observation!r}"
            f"{did_you_mean(str(observation), OBSERVATIONS) or '.'}"
        )
    if tile_size is not None and observation != "pixels":
        raise SpecError(f"env.tile_size is for observation: pixels; got {observation!r}.")
    if tile_size is not None and (not isinstance(tile_size, int) or tile_size < 1):
        raise SpecError(f"env.tile_size must be an integer >= 1; got {tile_size!r}.")


class PartialView(gym.Wrapper, RecordConstructorArgs):
    """Replaces MiniGrid's dict by one array, and says at the end whether the task was solved."""

    def __init__(self, env: gym.Env, observation: str = "grid", tile_size: int = 8) -> None:
        """Wraps any environment of MiniGrid.

        Args:
            env: With MiniGrid's own observation dict.
            observation: See the module.
            tile_size: See the module.
        """
        RecordConstructorArgs.__init__(self, observation=observation, tile_size=tile_size)
        super().__init__(env)
        self._view: Callable[[dict[str, Any]], np.ndarray]
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

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode."""
        observed, info = self.env.reset(seed=seed, options=options)
        return self._view(observed), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step; ``info["success"]`` comes with the last one of an episode."""
        observed, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info["success"] = bool(terminated and float(reward) > 0)
        return self._view(observed), float(reward), terminated, truncated, info


def _plane_offsets(size: int) -> np.ndarray:
    """[size, size, 3], where the value 0 of each number of MiniGrid's image has its bit.

    The image is [column, row, (object, colour, state)], the planes are [20, row, column]; a value
    v has its bit v planes, of ``size * size`` bits, further on.
    """
    first_plane = np.cumsum([0, *PLANES[:-1]])
    column, row, part = np.ogrid[:size, :size, :3]
    return first_plane[part] * size * size + row * size + column


def _bits(offsets: np.ndarray, observed: dict[str, Any]) -> np.ndarray:
    """[20 * size * size], the bits of MiniGrid's OneHotPartialObsWrapper without its loop."""
    plane = offsets.shape[0] * offsets.shape[1]
    bits = np.zeros(sum(PLANES) * plane, np.uint8)
    bits[offsets + observed["image"].astype(np.intp) * plane] = 1
    return bits


def _draw(env: Any, tile_size: int, observed: dict[str, Any]) -> np.ndarray:
    """[3, side, side], the view as MiniGrid draws it; what was observed is drawn from its state."""
    frame = env.get_frame(tile_size=tile_size, agent_pov=True)
    return np.ascontiguousarray(frame.transpose(2, 0, 1))
