"""What was played so far: it is printed, is in ``dataset.json``, and tells where to continue."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rlssl.errors import SpecError
from rlssl.evaluation import EpisodeRecord


@dataclass
class Statistics:
    """Sums over the episodes that were played. JSON has them exactly, so that a sum continues."""

    # Episodes of the environment.
    episodes: int = 0
    # Episodes of the data set; more, where lost lives split them.
    recorded: int = 0
    agent_steps: int = 0
    env_steps: int = 0
    # Sum of the returns, and of their squares.
    return_sum: float = 0.0
    return_squares: float = 0.0
    return_min: float | None = None
    return_max: float | None = None
    # Sum of the successes, and in how many episodes the environment told.
    successes: float = 0.0
    successes_known: int = 0

    def add(self, record: EpisodeRecord, num_recorded: int, action_repeat: int) -> None:
        """Counts an episode of the environment."""
        score = record.score
        self.episodes += 1
        self.recorded += num_recorded
        self.agent_steps += record.length
        self.env_steps += record.length * action_repeat
        self.return_sum += score
        self.return_squares += score**2
        self.return_min = score if self.return_min is None else min(self.return_min, score)
        self.return_max = score if self.return_max is None else max(self.return_max, score)
        if not math.isnan(record.success):
            self.successes += record.success
            self.successes_known += 1

    @property
    def return_mean(self) -> float:
        """Mean return; nan without an episode."""
        return self.return_sum / self.episodes if self.episodes else math.nan

    @property
    def return_std(self) -> float:
        """The sample's standard deviation of the returns; nan below two episodes."""
        if self.episodes < 2:
            return math.nan
        squares = self.return_squares - self.return_sum * self.return_mean
        return math.sqrt(max(squares, 0.0) / (self.episodes - 1))

    @property
    def success_rate(self) -> float:
        """Mean success; nan if the environment does not tell."""
        return self.successes / self.successes_known if self.successes_known else math.nan

    def to_json(self) -> dict[str, Any]:
        """The sums, and for readers the means."""
        means = {name: getattr(self, name) for name in _MEANS}
        known = {name: value for name, value in means.items() if not math.isnan(value)}
        return {**dataclasses.asdict(self), **known}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], where: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            SpecError: If a sum is missing.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in saved]:
            raise SpecError(
                f"{where} cannot be continued: its dataset.json does not say {missing[0]}; record "
                "into another folder."
            )
        return cls(**{name: saved[name] for name in names})


_MEANS = ("return_mean", "return_std", "success_rate")
