"""Decides which failures of a trial are retried, and on which nodes.

A process that died is retried, an error that it raised is not: a trial continues from its
checkpoint exactly as it ran before, so an error from its own code or its environment would be
raised again.
"""

import contextlib
import pickle
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import click
import ray
from ray import exceptions, tune
from ray.tune import Callback
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from rlssl.errors import FINAL_ERRORS, NodeDrainedError, NodeError
from rlssl.experiment.fault_log import note_fault
from rlssl.experiment.remote.checkpoints import newest_env_steps
from rlssl.ray_internals.cluster import NODE_LABEL
from rlssl.ray_internals.errors import causes
from rlssl.ray_internals.tuning import request_other_resources

#: Causes outside the trial: a kill, a lost or defective node, a full disk, a disk that is briefly
#: unavailable.
_FROM_OUTSIDE = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.OutOfDiskError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
    exceptions.RuntimeEnvSetupError,
    NodeDrainedError,
    NodeError,
    OSError,
)

#: A node with this many failed checks within this many seconds gets no further trial of the run.
MAX_FAILURES = 2
WINDOW_S = 60.0


def came_from_outside(error: BaseException | None) -> bool:
    """Whether a retry may succeed, judged by ``error`` and its causes."""
    for cause in causes(error):
        if isinstance(cause, FINAL_ERRORS):
            return False
        if isinstance(cause, _FROM_OUTSIDE):
            return True
    return False


@contextlib.contextmanager
def only_dead_processes_retried() -> Iterator[None]:
    """Inside this context, Tune retries only failures that came from outside the trial.

    Tune itself retries every failure, and counts all failures of a trial for ``max_failures``. Here
    it counts those since the trial's last new checkpoint: a trial that goes on learning may lose
    its node any number of times, as on spot machines. A trial that fails at the same point again
    and again ends. This context replaces the two methods of Tune that count and decide.
    """
    count, decide = Trial.handle_error, Trial.should_recover
    # Trial -> env steps of its newest checkpoint at its last failure.
    at_last_failure: dict[str, int] = {}

    def handle_error(trial: Trial, exc: Exception | None = None) -> None:
        newest = newest_env_steps(Path(trial.storage.trial_fs_path)) or 0
        metadata = trial.run_metadata
        if newest > at_last_failure.get(trial.trial_id, 0):
            metadata.num_failures = 0
        at_last_failure[trial.trial_id] = newest
        before = metadata.num_failures
        count(trial, exc)
        if moved_by(exc) is not None:
            metadata.num_failures = before

    def should_recover(trial: Trial) -> bool:
        return bool(decide(trial)) and came_from_outside(last_error(trial))

    Trial.handle_error, Trial.should_recover = handle_error, should_recover
    try:
        yield
    finally:
        Trial.handle_error, Trial.should_recover = count, decide


def moved_by(error: BaseException | None) -> NodeDrainedError | None:
    """The error with which a trial left a node that is drained; None: it lost a process."""
    # Ray's own error is of both classes, and has a traceback in its text. The innermost has not.
    return next((it for it in [*causes(error)][::-1] if isinstance(it, NodeDrainedError)), None)


def last_error(trial: Trial) -> BaseException | None:
    """The last error of a trial; None if there is none, or if its file cannot be read."""
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    try:
        error: Any = pickle.loads(Path(path).read_bytes())
    # A user's own exception class may fail to unpickle; Ray's classes do not.
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


class Quarantine(Callback):
    """Places trials on other nodes than those that have failed their checks.

    A trial does not go back to a node that has failed its check, and that failure does not count as
    one of its ``max_failures``. A node with `MAX_FAILURES` failed checks within `WINDOW_S` gets no
    further trial at all. The last usable node of a cluster gets trials in any case: they fail
    instead of waiting forever.
    """

    def __init__(self) -> None:
        # Node id -> times of failed checks.
        self._failures: defaultdict[str, list[float]] = defaultdict(list)
        self._excluded: list[str] = []
        # Trial -> nodes that have failed its check, and nodes that its request avoids.
        self._failed: defaultdict[str, set[str]] = defaultdict(set)
        self._avoided: dict[str, list[str]] = {}
        self._controller: TuneController | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; the nodes of a later run are others."""
        return dict(Quarantine().__dict__)

    def watch(self, controller: TuneController) -> None:
        """Takes the controller of Tune, which requests the resources of trials."""
        self._controller = controller

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; Tune requests resources after this call."""
        if not self._failures:
            return
        usable = usable_nodes()
        for trial in trials:
            if trial.status != Trial.PENDING:
                continue
            avoided = self._nodes_to_avoid(trial, usable)
            if avoided != self._avoided.get(trial.trial_id, []):
                request = without_nodes(trial.placement_group_factory, avoided)
                if request_other_resources(self._controller, trial, request):
                    self._avoided[trial.trial_id] = avoided

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        error = self._note_failure(trial)
        if error is not None and error.node_id in self._nodes_to_avoid(trial, usable_nodes()):
            trial.run_metadata.num_failures -= 1

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        self._note_failure(trial)

    def _nodes_to_avoid(self, trial: Trial, usable: Set[str]) -> list[str]:
        """All excluded nodes and those that failed this trial; the former if no other is left."""
        excluded = set(self._excluded)
        avoided = excluded | self._failed[trial.trial_id]
        return sorted(avoided if usable - avoided else excluded)

    def _note_failure(self, trial: Trial) -> NodeError | None:
        error = next(
            (each for each in causes(last_error(trial)) if isinstance(each, NodeError)), None
        )
        if error is None:
            return None
        self._failed[trial.trial_id].add(error.node_id)
        now, times = time.monotonic(), self._failures[error.node_id]
        times.append(now)
        recent = [since for since in times if now - since <= WINDOW_S]
        if len(recent) >= MAX_FAILURES and error.node_id not in self._excluded:
            self._exclude(error.node_id, len(recent), Path(trial.storage.experiment_fs_path))
        return error

    def _exclude(self, node_id: str, count: int, folder: Path) -> None:
        if usable_nodes() <= {*self._excluded, node_id}:
            return
        self._excluded.append(node_id)
        note_fault(folder, "node", f"{node_id[:8]} failed {count} trials")
        click.echo(
            f"Node {node_id[:8]} has failed {count} trials within {WINDOW_S:g} s. This run places "
            "no further trial there.",
            err=True,
        )


def usable_nodes() -> set[str]:
    """The ids of the nodes of the cluster that live and have CPUs."""
    return {
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    }


def without_nodes(
    request: tune.PlacementGroupFactory, node_ids: Sequence[str]
) -> tune.PlacementGroupFactory:
    """The same request for resources, on other nodes.

    Args:
        request: The processes of a trial.
        node_ids: The nodes to avoid; none gives a request for any node.
    """
    if not node_ids:
        return tune.PlacementGroupFactory(request.bundles, request.strategy)
    selector = {NODE_LABEL: f"!in({','.join(node_ids)})"}
    return tune.PlacementGroupFactory(
        request.bundles, request.strategy, bundle_label_selector=[selector] * len(request.bundles)
    )
