"""The bot of BabyAI (Chevalier-Boisvert et al. 2019, arXiv:1810.08272), which minigrid has."""

from typing import Any

import gymnasium as gym
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

from rlssl.errors import SpecError


class Bot:
    """Plans the shortest way through the part of a BabyAI level that the agent has seen.

    It reads the mission and the grid from the environment, so any observation will do. It remembers
    what it has seen, and it has to know which actions were taken: call ``act`` once a step.
    """

    def __init__(self, env: gym.Env) -> None:
        """Takes any level of BabyAI.

        Raises:
            SpecError: The environment is not a level of BabyAI: it has no mission to read.
        """
        if not isinstance(env.unwrapped, RoomGridLevel):
            name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
            raise SpecError(
                f"expert/babyai-bot follows the mission of a BabyAI level, and {name} has none; "
                "take a BabyAI-... environment: rlssl list envs BabyAI."
            )
        self._level = env.unwrapped

    def reset(self, observation: Any) -> None:
        """Reads the mission of a new episode."""
        self._bot = BabyAIBot(self._level)

    def act(self, observation: Any, previous_action: Any) -> int:
        """The next action; ``done`` if the bot takes the mission for accomplished.

        Raises:
            SpecError: The bot cannot solve the level.
        """
        try:
            return int(self._bot.replan(previous_action))
        except (AssertionError, DisappearedBoxError):
            # Off its own path, the bot may be lost: actions of another policy opened a box, say. A
            # new bot plans from here, but has to explore again.
            self._bot = BabyAIBot(self._level)
        try:
            return int(self._bot.replan())
        except AssertionError as error:
            raise SpecError(
                f"expert/babyai-bot cannot solve {type(self._level).__name__} "
                f"({self._level.mission!r}); take another level."
            ) from error
