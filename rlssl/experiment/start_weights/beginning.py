"""Gives a new Algorithm the weights that its trial begins with."""

import functools
from pathlib import Path
from typing import Any

from rlssl.algorithms.common.transfer.weights import Load, StartWeights
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.start_weights.files import read_own_weights
from rlssl.experiment.start_weights.reading import read_weights


def begin_with_weights(
    algorithm: Any, spec: Spec, trial: Path | None, uri: str | None, *, earlier: str | None = None
) -> None:
    """Loads what ``model.from`` says into all Learners, and sends it to the EnvRunners.

    Args:
        algorithm: New, without an update.
        spec: The spec of the trial.
        trial: The trial's folder; None without a storage: then it begins with new weights.
        uri: The run on an object store; None without one.
        earlier: A checkpoint, as runs of earlier versions say it; all of its weights are taken.
    """
    if earlier is not None:
        load_weights(algorithm, read_weights(Path(earlier), "everything"), "everything")
    elif spec.model.from_ is not None and trial is not None:
        assert spec.seed is not None
        load: Load = spec.model.load or "encoder"
        own = read_own_weights(trial.parent, uri, spec.model.from_, load, spec.seed)
        load_weights(algorithm, own, load)


def load_weights(algorithm: Any, weights: StartWeights, load: Load) -> None:
    """Loads weights into all Learners of an Algorithm, and sends them to the EnvRunners."""
    results = algorithm.learner_group.foreach_learner(
        functools.partial(_take, weights=weights, load=load)
    )
    for result in results:
        result.get()  # raises the error of a Learner
    algorithm.env_runner_group.sync_weights(
        from_worker_or_learner_group=algorithm.learner_group, inference_only=True
    )


def _take(learner: Any, weights: StartWeights, load: Load) -> None:
    weights.take(learner.rl_module, load)
