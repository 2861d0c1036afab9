"""Requests of fragments to remote EnvRunners, which sample while the Learner updates."""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.errors import EnvironmentFaultError
from rlssl.rollouts.base_env_runner import BaseEnvRunner

_TAG = "fragment"


class Fragment(NamedTuple):
    """What an EnvRunner sampled, and its metrics since the last fragment.

    Both come in one message, so an EnvRunner that dies loses both or none.
    """

    # Chunks of episodes.
    episodes: list[SingleAgentEpisode]
    # What the EnvRunner's ``get_metrics`` returned.
    metrics: Any
    # Agent steps of the run before the latest action; None if exploration does not follow them.
    latest_action_at: int | None

    @property
    def agent_steps(self) -> int:
        """Agent steps of all chunks."""
        return sum(map(len, self.episodes))


class FragmentRequests:
    """Requests a fragment from every remote EnvRunner, and collects all of them later.

    Meanwhile the Learner may update. Weights that are sent meanwhile arrive after the fragment in
    progress. The next fragments are requested after all have arrived, so the weights of a fragment
    do not depend on the speed of any process.
    """

    def __init__(self, group: EnvRunnerGroup) -> None:
        """Requests nothing yet."""
        self._group = group
        # Fragments that have arrived before they were collected.
        self._arrived: list[Fragment] = []

    @property
    def has_fragments(self) -> bool:
        """Whether there are fragments to collect, also if they have not arrived yet."""
        return bool(self._arrived or self._group.num_in_flight_async_reqs(_TAG))

    def send(self, **request: int) -> None:
        """Requests a fragment from every EnvRunner that has no request in progress.

        Does nothing if fragments have arrived that are not collected.

        Args:
            **request: The arguments of `sampled`.
        """
        if not self._arrived:
            self._group.foreach_env_runner_async(sampled, tag=_TAG, kwargs=request)

    def collect(self, timeout_s: float | None = None) -> list[Fragment]:
        """Waits for the requested fragments and returns them, in the order of the EnvRunners.

        Args:
            timeout_s: A fragment that takes longer is left for a later call; None: waits for all.

        Raises:
            EnvironmentFaultError: If the environments of an EnvRunner failed too often.
        """
        self._receive(timeout_s)
        collected, self._arrived = self._arrived, []
        return collected

    def save(self) -> list[tuple[Any, ...]]:
        """Waits for the requested fragments and returns them for a checkpoint.

        `collect` returns them again. If environments have failed too often, the next request to
        their EnvRunner raises the error.
        """
        with contextlib.suppress(EnvironmentFaultError):
            self._receive()
        return [tuple(fragment) for fragment in self._arrived]

    def restore(self, saved: Sequence[tuple[Any, ...]]) -> None:
        """Lets `collect` return what `save` returned; drops all other fragments."""
        self.save()
        self._arrived = [Fragment(*fields) for fields in saved]

    def _receive(self, timeout_s: float | None = None) -> None:
        replies = self._group.fetch_ready_async_reqs(tags=[_TAG], timeout_seconds=timeout_s)
        self._arrived += [fragment for _, fragment in sorted(replies, key=lambda reply: reply[0])]


def sampled(
    runner: EnvRunner,
    *,
    agent_steps: int | None = None,
    offset: int = 0,
    num_timesteps: int | None = None,
) -> Fragment:
    """Samples a fragment; called in the process of an EnvRunner.

    Args:
        runner: The EnvRunner.
        agent_steps: Agent steps of the run so far, which exploration follows; None: the runner
            estimates them.
        offset: Agent steps of the runner in earlier fragments of the same result.
        num_timesteps: Agent steps to sample; None: the fragment of the config.
    """
    if isinstance(runner, BaseEnvRunner):
        runner.continue_at(agent_steps, offset)
    how_much = {} if num_timesteps is None else {"num_timesteps": num_timesteps}
    episodes = runner.sample(**how_much)
    return Fragment(
        episodes, runner.get_metrics(), getattr(runner.module, "latest_action_at", None)
    )
