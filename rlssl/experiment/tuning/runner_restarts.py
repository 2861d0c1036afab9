"""Counts the EnvRunners that died and were started again, over a whole run."""

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.ray_internals.cluster import num_restarts
from rlssl.ray_internals.env_runner import actor_manager
from rlssl.rollouts.faults import FAULTS_KEY

#: Lifetime counts in every result's `faults`, beside what EnvRunners and Learners count.
RESTARTS, ABANDONED = "env_runner_restarts", "episodes_abandoned"


class RunnerRestarts:
    """What dead processes cost a run: lifetime counts, which checkpoints carry on.

    Restarts are Ray's own count for each actor: RLlib counts the changes from unhealthy to healthy
    that it sees, and misses a runner that is back before it looks.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        """Starts counting.

        Args:
            algorithm: Newly built.
        """
        self._algorithm = algorithm
        self._restarts_before = self._abandoned_before = 0

    def go_on_from(self, counts: dict[str, int], *, newly_abandoned: int) -> None:
        """Adds to the counts of a run that is resumed.

        Args:
            counts: From `counts`, when the checkpoint was saved.
            newly_abandoned: Open episodes that the resume itself lost.
        """
        self._restarts_before = counts.get(RESTARTS, 0)
        self._abandoned_before = counts.get(ABANDONED, 0) + newly_abandoned

    def counts(self) -> dict[str, int]:
        """Restarts, and episodes that nobody will finish: each environment of a dead runner's."""
        restarts = sum(num_restarts(actor) for actor in self._runners())
        lost = restarts * self._algorithm.config.num_envs_per_env_runner
        return {
            RESTARTS: self._restarts_before + restarts,
            ABANDONED: self._abandoned_before + lost,
        }

    def add_to(self, result: dict[str, Any]) -> None:
        """Puts the counts beside the other faults of a result."""
        result[FAULTS_KEY] = {**result.get(FAULTS_KEY, {}), **self.counts()}

    def _runners(self) -> list[Any]:
        return list(actor_manager(self._algorithm.env_runner_group).actors().values())
