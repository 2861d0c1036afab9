"""A noisy TV in MiniGrid and BabyAI: ``env: {id: MiniGrid-DoorKey-6x6-v0, noisy_tv: {}}``.

What the TV shows cannot be predicted and has nothing to do with the task. An agent that is
rewarded for what it cannot predict may stay in front of it (Burda et al. 2018, arXiv:1808.04355,
section 5). Options:

- ``trigger``: ``action`` (default) adds one action, the last one. It changes nothing in the grid
  and takes a step; the agent then sees random tiles in all of its view. ``place``: one wall tile
  next to a free one is the TV. Whenever the agent sees this place, it shows a random tile. Actions,
  the grid and rewards stay as they are.

Tiles are balls, boxes and keys of random colors. They, and the place, depend only on the seed of
the episode, and not on the environment's random numbers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.errors import SpecError, did_you_mean, suggest

TRIGGERS = ("action", "place")

# Part of the seed, so that the TV and the environment draw different numbers.
_STREAM = 0x7E1E


def check(options: Any) -> None:
    """Checks ``env.noisy_tv``.

    Raises:
        SpecError: An option is unknown or has a wrong value.
    """
    _trigger(options)


def wrap(env: gym.Env, options: Any, config: Mapping[str, Any]) -> gym.Env:
    """Puts a noisy TV into an environment of MiniGrid.

    Raises:
        SpecError: It is another environment, or an option is wrong.
    """
    return NoisyTV(env, _trigger(options), config.get("seed"))


def wrap_vec(
    vector: gym.vector.VectorEnv, options: Any, config: Mapping[str, Any]
) -> gym.vector.VectorEnv:
    """Refuses: MiniGrid has no vector environment.

    Raises:
        SpecError: Always.
    """
    raise _other_environment(config["id"])


class NoisyTV(gym.Wrapper):
    """An environment of MiniGrid with a noisy TV.

    Args:
        env: An environment of `rlssl_envs.minigrid`.
        trigger: See the module.
        seed: Seed until a reset has one; None: different in each run.

    Raises:
        SpecError: If it is another environment.
    """

    def __init__(self, env: gym.Env, trigger: str, seed: int | None) -> None:
        super().__init__(env)
        if not hasattr(env.unwrapped, "agent_view_size"):
            raise _other_environment(env.unwrapped)
        from rlssl_envs.minigrid import PartialView

        assert isinstance(env, PartialView)  # for mypy: `make` gives it
        self._partial = env
        self._grid: Any = env.unwrapped
        self._rng = np.random.default_rng(None if seed is None else [_STREAM, int(seed)])
        self._place: tuple[int, int] | None = None
        self._has_place = trigger == "place"
        if not self._has_place:
            assert isinstance(env.action_space, gym.spaces.Discrete)  # MiniGrid's
            # The number of MiniGrid's actions is the number of the action that watches.
            self._watch = int(env.action_space.n)
            self.action_space = gym.spaces.Discrete(self._watch + 1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; a seed also seeds the TV."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._rng = np.random.default_rng([_STREAM, int(seed)])
        if not self._has_place:
            return observation, info
        places = self._places()
        self._place = places[self._rng.integers(len(places))] if places else None
        return self._seen(), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step, or watches TV."""
        if self._has_place:
            _, reward, terminated, truncated, info = self._partial.step(action)
            return self._seen(), reward, terminated, truncated, info
        if int(action) != self._watch:
            return self._partial.step(action)
        self._grid.step_count += 1
        truncated = bool(self._grid.step_count >= self._grid.max_steps)
        shown = self._partial.show(self._random_view())
        return shown, 0.0, False, truncated, {"success": False} if truncated else {}

    def _places(self) -> list[tuple[int, int]]:
        """Coordinates of the walls next to a free tile."""
        grid = self._grid.grid
        found = []
        for x in range(grid.width):
            for y in range(grid.height):
                near = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
                inside = [(a, b) for a, b in near if 0 <= a < grid.width and 0 <= b < grid.height]
                tile = grid.get(x, y)
                is_wall = tile is not None and tile.type == "wall"
                if is_wall and any(grid.get(*other) is None for other in inside):
                    found.append((x, y))
        return found

    def _seen(self) -> np.ndarray:
        """The observation with a random tile at the TV's place."""
        if self._place is None:
            return self._partial.observe()
        with self._shown(*self._place):
            return self._partial.observe()

    @contextmanager
    def _shown(self, x: int, y: int) -> Iterator[None]:
        """Puts a random tile at a place, inside the ``with`` block."""
        wall = self._grid.grid.get(x, y)
        tile = self._random_tile()
        # As a wall: what is behind it stays hidden.
        tile.see_behind = wall.see_behind
        self._grid.grid.set(x, y, tile)
        try:
            yield
        finally:
            self._grid.grid.set(x, y, wall)

    def _random_view(self) -> Any:
        from minigrid.core.grid import Grid

        side = self._grid.agent_view_size
        grid = Grid(side, side)
        for x in range(side):
            for y in range(side):
                grid.set(x, y, self._random_tile())
        return grid

    def _random_tile(self) -> Any:
        from minigrid.core.constants import COLOR_NAMES
        from minigrid.core.world_object import Ball, Box, Key

        kind = (Ball, Box, Key)[self._rng.integers(3)]
        return kind(COLOR_NAMES[self._rng.integers(len(COLOR_NAMES))])


def _trigger(options: Any) -> str:
    if not isinstance(options, Mapping):
        raise SpecError(f"env.noisy_tv must be options, as {{trigger: action}}; got {options!r}.")
    for key in options.keys() - {"trigger"}:
        raise SpecError(f"unknown option env.noisy_tv.{key}{suggest(str(key), ['trigger'])}")
    trigger = options.get("trigger", "action")
    if trigger not in TRIGGERS:
        guess = did_you_mean(str(trigger), TRIGGERS) or "."
        raise SpecError(f"env.noisy_tv.trigger must be action or place; got {trigger!r}{guess}")
    return str(trigger)


def _other_environment(what: Any) -> SpecError:
    return SpecError(f"env.noisy_tv needs an environment of MiniGrid or BabyAI; got {what}.")
