"""Replaces goals of drawn steps by goals that their episodes achieved, with fitting rewards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from ray.rllib.core.columns import Columns

from rlssl.environments.goals import ACHIEVED, DESIRED, GoalFunctions
from rlssl.replay.hindsight.episode_rows import EpisodeRows
from rlssl.replay.ring import Placement, Ring
from rlssl.replay.storage import RowStorage
from rlssl.space_layout import Layout

#: Which states of its episode may become the goal of a step.
Strategy = Literal["future", "final", "episode"]

#: Key of a batch: [B] bool, the rows whose goal was replaced.
RELABELED = "relabeled"


@dataclass(frozen=True)
class RelabelSettings:
    """``training.relabel``: which steps get which goals.

    Raises:
        ValueError: Naming the field and the value.

    Example:
        >>> RelabelSettings(k=4).share
        0.8
    """

    # future: a later state of the episode. final: its last state. episode: any of its states. Only
    # states that are in the replay buffer.
    strategy: Strategy = "future"
    # Steps with a replaced goal for each step with its own goal; > 0. 4 as published.
    k: float = 4.0

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.strategy not in get_args(Strategy):
            known = ", ".join(get_args(Strategy))
            raise ValueError(f"strategy must be one of {known}; got {self.strategy!r}.")
        is_number = isinstance(self.k, int | float) and not isinstance(self.k, bool)
        if not is_number or not 0 < self.k < float("inf"):
            raise ValueError(f"k must be a number > 0; got {self.k!r}.")

    @property
    def share(self) -> float:
        """Probability that the goal of a step is replaced."""
        return self.k / (self.k + 1)


class Outcomes(NamedTuple):
    """What steps led to; arrays of the rows' shape."""

    # float32.
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class Relabeler:
    """Draws goals for steps of a replay buffer, and computes rewards for these goals.

    Source:
        Andrychowicz et al. 2017, arXiv:1707.01495, section 3.3. As in the published code, goals are
        replaced when steps are drawn, with probability k / (k + 1). Differs: where the environment
        has ``compute_terminated``, terminations are computed for the new goal; n-step returns are
        possible; episodes may be unfinished.
    """

    def __init__(
        self,
        settings: RelabelSettings,
        functions: GoalFunctions,
        layout: Layout,
        rows: RowStorage,
        ring: Ring,
    ) -> None:
        """Starts with an empty buffer.

        Args:
            settings: Which steps get which goals.
            functions: The environment's rewards.
            layout: The leaves of an observation, which has goals.
            rows: The storage.
            ring: The links.
        """
        self.settings, self.functions = settings, functions
        self.rows, self._ring = rows, ring
        numbers = layout.unflatten(range(len(layout.leaves)))
        #: Numbers of the leaves with the two kinds of goals.
        self.achieved, self.desired = int(numbers[ACHIEVED]), int(numbers[DESIRED])
        self._episodes = EpisodeRows(rows, ring)
        # Steps with a replaced goal since `take_counts`, and how many of them reach their goal.
        self._num_relabeled = self._num_successes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return self._episodes.nbytes

    def added(self, placed: Placement) -> None:
        """Notes the rows of a new chunk."""
        self._episodes.added(placed)

    def rebuild(self) -> None:
        """Notes all rows, after they were restored."""
        self._episodes.rebuild()

    def draw(self, slots: np.ndarray, generator: np.random.Generator) -> "Goals":
        """Draws which steps get another goal, and the goals.

        Args:
            slots: [B], rows with a step.
            generator: Gives 2 B numbers.
        """
        is_relabeled = generator.random(len(slots)) < self.settings.share
        fractions = generator.random(len(slots))[is_relabeled]
        values = self.rows.observations[self.desired][slots]
        if is_relabeled.any():
            taken = slots[is_relabeled]
            values[is_relabeled] = self._achieved_at(self._states_for(taken, fractions))
            self._count(taken, values[is_relabeled])
        return Goals(self, values, is_relabeled)

    def goals_in(self, batch: Mapping[str, Any]) -> "Goals":
        """The goals of a batch that `draw` gave its goals, for more columns of the same rows."""
        return Goals(self, batch[Columns.OBS][DESIRED], batch[RELABELED])

    def take_counts(self) -> tuple[int, int]:
        """Steps with a replaced goal since the last call, and how many of them reach their goal.

        A step reaches its goal if its reward is that of the goal itself.
        """
        counts = self._num_relabeled, self._num_successes
        self._num_relabeled = self._num_successes = 0
        return counts

    def wrong_reward(self) -> tuple[float, float] | None:
        """Looks for a stored reward that is not the environment's for the step's own goal.

        Returns:
            The stored reward and the environment's; None: all are equal.
        """
        slots = np.flatnonzero(self.rows.drawable)
        own_goals = self.rows.observations[self.desired][slots]
        expected = self.functions.rewards(self._achieved_at(self._ring.following(slots)), own_goals)
        stored = self.rows.rewards[slots]
        wrong = np.flatnonzero(~np.isclose(stored, expected, rtol=1e-5, atol=1e-6))
        return (float(stored[wrong[0]]), float(expected[wrong[0]])) if len(wrong) else None

    def _states_for(self, slots: np.ndarray, fractions: np.ndarray) -> np.ndarray:
        """[N], the slots of the states that become the goals of steps.

        Args:
            slots: [N].
            fractions: [N], in [0, 1), uniform.
        """
        first, own, last = self._episodes.places(slots)
        if self.settings.strategy == "final":
            places = last
        else:
            start = own + 1 if self.settings.strategy == "future" else first
            places = start + (fractions * (last + 1 - start)).astype(np.int64)
        return self._episodes.slots_at(slots, places)

    def _achieved_at(self, slots: np.ndarray) -> np.ndarray:
        return self.rows.observations[self.achieved][slots]

    def _count(self, slots: np.ndarray, goals: np.ndarray) -> None:
        rewards = self.functions.rewards(self._achieved_at(self._ring.following(slots)), goals)
        at_goal = self.functions.rewards(goals, goals)
        self._num_relabeled += len(slots)
        self._num_successes += int(np.count_nonzero(rewards >= at_goal))


class Goals:
    """The goals of B drawn rows; a row's goal is that of all steps of its window."""

    def __init__(self, relabeler: Relabeler, values: np.ndarray, is_relabeled: np.ndarray) -> None:
        """Keeps the goals.

        Args:
            relabeler: The buffer's.
            values: [B, ...].
            is_relabeled: [B], whether the goal differs from that of the episode. The other rows
                stay as they were sampled.
        """
        self._relabeler, self._values, self.is_relabeled = relabeler, values, is_relabeled

    def write_into(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """Writes the goals into the leaves [B, ...] or [B, T, ...] of observations."""
        leaf = leaves[self._relabeler.desired]
        leaf[self.is_relabeled] = self._for_steps(leaf.ndim - self._values.ndim)
        return leaves

    def outcomes(self, slots: np.ndarray, following: np.ndarray) -> Outcomes:
        """What steps led to, with these goals.

        A recorded termination that the episode's own goal explains depends on the goal. With
        another goal the step is truncated instead. Every other recorded termination stays.

        Args:
            slots: [B] or [B, T], rows with a step; of other rows, the result has no meaning.
            following: The same shape, the rows that follow them.
        """
        rows, which = self._relabeler.rows, self.is_relabeled
        rewards = rows.rewards[slots]
        terminated, truncated = rows.terminated[slots], rows.truncated[slots]
        if not which.any():
            return Outcomes(rewards, terminated, truncated)
        shape = following[which].shape
        achieved = rows.observations[self._relabeler.achieved][following[which].reshape(-1)]
        goals = np.broadcast_to(
            self._for_steps(len(shape) - 1), (*shape, *self._values.shape[1:])
        ).reshape(achieved.shape)
        functions = self._relabeler.functions
        rewards[which] = functions.rewards(achieved, goals).reshape(shape)
        if functions.tells_terminations:
            recorded = terminated[which].reshape(-1)
            ended = functions.terminations(achieved, goals)
            if recorded.any():
                from_slots = slots[which].reshape(-1)[recorded]
                own_goals = rows.observations[self._relabeler.desired][from_slots]
                ended[recorded] |= ~functions.terminations(achieved[recorded], own_goals)
            truncated[which] |= (recorded & ~ended).reshape(shape)
            terminated[which] = ended.reshape(shape)
        return Outcomes(rewards, terminated, truncated)

    def _for_steps(self, num_axes: int) -> np.ndarray:
        """The replaced goals [M, ...] with further axes behind the first."""
        values = self._values[self.is_relabeled]
        return np.expand_dims(values, tuple(range(1, 1 + num_axes)))
