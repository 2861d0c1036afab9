"""Sampling the next fragments on remote EnvRunners while the Learner updates."""

from typing import Any

from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.ray_internals.learner import WEIGHTS_TAG

_TAG = "overlap"


class OverlappedSampling:
    """Lets every remote EnvRunner sample its next fragment during the Learner's update.

    Weights that are sent meanwhile arrive after the fragment in progress. So that fragment comes
    from a policy that is one update old.
    """

    def __init__(self, group: EnvRunnerGroup) -> None:
        """Starts no sampling yet; ``group`` has remote EnvRunners."""
        self._group = group

    def begin(self) -> None:
        """Requests a fragment from every EnvRunner that has no request in progress."""
        self._group.foreach_env_runner_async(_sample, tag=_TAG)

    def wait_for_weights(self) -> None:
        """Waits until the last weights have arrived: until then, RLlib would send no new ones."""
        self._group.fetch_ready_async_reqs(tags=[WEIGHTS_TAG], timeout_seconds=None)

    def collect(self, num_steps: int) -> tuple[list[SingleAgentEpisode], list[Any]]:
        """Waits for fragments, and requests more until there are enough.

        Args:
            num_steps: Agent steps wanted; whole fragments are returned, so there may be more.

        Returns:
            Chunks of episodes and the metrics of EnvRunners; fewer steps, or none, if no EnvRunner
            is left.
        """
        episodes: list[SingleAgentEpisode] = []
        metrics: list[Any] = []
        while sum(map(len, episodes)) < num_steps and self._group.num_healthy_remote_workers():
            self.begin()
            # Waits for all: a runner with an early second request would miss the next weights.
            while self._group.num_in_flight_async_reqs(_TAG):
                results = self._group.fetch_ready_async_reqs(tags=[_TAG], timeout_seconds=None)
                for _, (sampled, logged) in results:
                    episodes += sampled
                    metrics.append(logged)
        return episodes, metrics


def _sample(runner: EnvRunner) -> tuple[Any, Any]:
    return runner.sample(), runner.get_metrics()
