"""Sampling the next fragments on remote EnvRunners while the Learner updates."""

from typing import Any

from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.ray_internals.learner import WEIGHTS_TAG

_TAG = "overlap"


class OverlappedSampling:
    """Has every remote EnvRunner sample a fragment before the last ones are learned from.

    Weights that are sent meanwhile arrive behind the fragment under way, so that it is sampled by
    the policy of one update before.
    """

    def __init__(self, group: EnvRunnerGroup) -> None:
        """Starts nothing yet; ``group`` has remote EnvRunners."""
        self._group = group

    def begin(self) -> None:
        """Asks every EnvRunner for a fragment that has none under way."""
        self._group.foreach_env_runner_async(_sample, tag=_TAG)

    def see_weights_taken(self) -> None:
        """Waits until the weights sent last have arrived: RLlib sends no others before it knows."""
        self._group.fetch_ready_async_reqs(tags=[WEIGHTS_TAG], timeout_seconds=None)

    def collect(self, num_steps: int) -> tuple[list[SingleAgentEpisode], list[Any]]:
        """Waits for fragments, and asks for more until there are enough.

        Args:
            num_steps: Agent steps wanted; whole fragments are returned, so there may be more.

        Returns:
            Chunks of episodes and the metrics of EnvRunners; fewer steps, or none, where no
            EnvRunner is left.
        """
        episodes: list[SingleAgentEpisode] = []
        metrics: list[Any] = []
        while sum(map(len, episodes)) < num_steps and self._group.num_healthy_remote_workers():
            self.begin()
            # All of them: one that were asked again too soon would miss the weights on their way.
            while self._group.num_in_flight_async_reqs(_TAG):
                results = self._group.fetch_ready_async_reqs(tags=[_TAG], timeout_seconds=None)
                for _, (sampled, logged) in results:
                    episodes += sampled
                    metrics.append(logged)
        return episodes, metrics


def _sample(runner: EnvRunner) -> tuple[Any, Any]:
    return runner.sample(), runner.get_metrics()
