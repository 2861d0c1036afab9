"""Counts the EnvRunners that died and were restarted, over a whole run."""

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.ray_internals.cluster import num_restarts
from rlssl.ray_internals.env_runner import actor_manager
from rlssl.rollouts.faults import FAULTS_KEY

#: Keys of lifetime counts in every result's `faults`, beside the counts of EnvRunners and Learners.
RESTARTS, ABANDONED = "env_runner_restarts", "episodes_abandoned"


class RunnerRestarts:
    """Lifetime counts of EnvRunner restarts and lost episodes; checkpoints store them.

    The number of restarts is Ray's own count for each actor. RLlib's count is too low: RLlib polls
    the health of its runners, and misses a runner that is back before the next poll.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        """Starts counting.

        Args:
            algorithm: A newly built Algorithm.
        """
        self._algorithm = algorithm
        self._restarts_before = self._abandoned_before = 0

    def go_on_from(self, counts: dict[str, int], *, newly_abandoned: int) -> None:
        """Continues the counts of a resumed run.

        Args:
            counts: The result of `counts` when the checkpoint was saved.
            newly_abandoned: Open episodes that the resume itself lost.
        """
        self._restarts_before = counts.get(RESTARTS, 0)
        self._abandoned_before = counts.get(ABANDONED, 0) + newly_abandoned

    def counts(self) -> dict[str, int]:
        """Restarts, and abandoned episodes: one for each environment of a dead EnvRunner."""
        restarts = sum(num_restarts(actor) for actor in self._runners())
        lost = restarts * self._algorithm.config.num_envs_per_env_runner
        return {
            RESTARTS: self._restarts_before + restarts,
            ABANDONED: self._abandoned_before + lost,
        }

    def add_to(self, result: dict[str, Any]) -> None:
        """Adds the counts to the other faults of a result."""
        result[FAULTS_KEY] = {**result.get(FAULTS_KEY, {}), **self.counts()}

    def _runners(self) -> list[Any]:
        return list(actor_manager(self._algorithm.env_runner_group).actors().values())
