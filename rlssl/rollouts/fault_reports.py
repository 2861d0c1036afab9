"""Brings the faults of remote EnvRunners to the process that trains."""

from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayActorError
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS

from rlssl.errors import EnvironmentFaultError
from rlssl.ray_internals.env_runner import watch_remote_results
from rlssl.rollouts.faults import FAULT_COUNTERS, FAULTS_KEY


def raise_faults_of_remote_runners() -> None:
    """Makes RLlib raise, in this process, what remote runners give up on.

    It would log the error, go on without the runner and, at last, train on nothing. The same holds
    for a runner that cannot be built. Idempotent; errors of other actors are RLlib's as ever.
    """
    watch_remote_results(_raise_if_final)


def _raise_if_final(error: BaseException) -> None:
    is_unbuilt = isinstance(error, RayActorError) and error.actor_init_failed
    # Ray's own error tells of actors and tasks first.
    original = getattr(error.args[0] if is_unbuilt else error, "cause", error)
    if isinstance(original, EnvironmentFaultError):
        raise EnvironmentFaultError(str(original)) from error
    if is_unbuilt:
        raise original


def count_faults(results: Mapping[str, Any]) -> dict[str, int]:
    """Lifetime counts of all faults: the environments', then the Learners'.

    Args:
        results: One result of an RLlib Algorithm.
    """
    counts = dict.fromkeys((*FAULT_COUNTERS, "nonfinite_updates"), 0)
    for part in (ENV_RUNNER_RESULTS, LEARNER_RESULTS):
        given = results.get(part, {}).get(FAULTS_KEY, {})
        counts.update({name: int(count) for name, count in given.items()})
    return counts
