"""The ratio of updates to agent steps."""

from collections.abc import Mapping
from typing import Any


class UpdateRatio:
    """Counts agent steps and updates, and computes how many updates are due.

    After s agent steps, ``floor(updates_per_agent_step * max(0, s - starts_at))`` updates have been
    due in total, however the steps are split into fragments. Steps before the start of learning
    cause no updates. When learning starts, ``at_start`` more updates are due, once in a run.

    Example:
        >>> ratio = UpdateRatio(starts_at=1_000, updates_per_agent_step=1.0, at_start=1_000)
        >>> ratio.count_steps(999)
        >>> ratio.num_due
        0
        >>> ratio.count_steps(1)
        >>> ratio.num_due
        1000
    """

    def __init__(self, *, starts_at: int, updates_per_agent_step: float, at_start: int = 0) -> None:
        """Starts at 0.

        Args:
            starts_at: Agent steps before any update; >= 0.
            updates_per_agent_step: >= 0, no unit.
            at_start: Updates that are due at once after ``starts_at`` agent steps; >= 0.
        """
        self.starts_at, self.updates_per_agent_step = starts_at, updates_per_agent_step
        self._at_start = at_start
        # Updates that the start of learning has made due; None: learning has not started.
        self._starting: int | None = None
        self.agent_steps = self.num_updates = 0
        # Steps since the start of learning, and updates made for them.
        self._counted = self._made = 0

    def count_steps(self, num: int) -> None:
        """Counts ``num`` >= 0 new agent steps."""
        before = max(self.agent_steps, self.starts_at)
        self.agent_steps += num
        self._counted += max(0, self.agent_steps - before)
        if self._starting is None and self.agent_steps >= self.starts_at:
            self._starting = self._at_start

    @property
    def num_due(self) -> int:
        """Updates to make now."""
        # 0.1 * 30 is 3.0000000000000004, and 0.29 * 100 is 28.999999999999996.
        due = int(self._counted * self.updates_per_agent_step + 1e-9)
        return due + (self._starting or 0) - self._made

    def count_update(self) -> None:
        """Counts one update."""
        self.num_updates += 1
        self._made += 1

    def pause(self, num_agent_steps: int) -> None:
        """Makes no updates during the next agent steps; called when the replay buffer is lost."""
        self.starts_at = self.agent_steps + num_agent_steps

    def get_state(self) -> dict[str, Any]:
        """All counts."""
        return {
            "starts_at": self.starts_at,
            "agent_steps": self.agent_steps,
            "num_updates": self.num_updates,
            "counted": self._counted,
            "made": self._made,
            "starting": self._starting,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what ``get_state`` gave, also in an earlier version."""
        self.starts_at, self.agent_steps = state["starts_at"], state["agent_steps"]
        self.num_updates = state["num_updates"]
        self._counted, self._made = state["counted"], state["made"]
        has_started = self.agent_steps >= self.starts_at
        # Runs of earlier versions that have learned made no starting updates.
        self._starting = state.get("starting", 0 if has_started else None)
