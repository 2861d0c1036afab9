"""Builds the scheduler of a sweep from its spec."""

from pathlib import Path

from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.tuning.schedulers.median_stopping import MedianStopping
from rlssl.experiment.tuning.schedulers.point_scheduler import PointScheduler, in_words
from rlssl.experiment.tuning.schedulers.seeded_asha import SeededASHA, rungs


def scheduler_of(spec: Spec, folder: Path) -> PointScheduler | None:
    """The scheduler of a sweep; it continues if the run's folder has its file."""
    if spec.scheduler is None:
        return None
    objective, seeds = objective_of(spec), spec.seeds
    if (median := spec.scheduler.median) is not None:
        return MedianStopping(
            min_points=median.min_points,
            objective=objective,
            rungs=rungs_of(spec),
            seeds=seeds,
            folder=folder,
        )
    assert spec.scheduler.asha is not None
    return SeededASHA(
        reduction_factor=spec.scheduler.asha.reduction_factor,
        objective=objective,
        rungs=rungs_of(spec),
        seeds=seeds,
        folder=folder,
    )


def rungs_of(spec: Spec) -> list[int]:
    """The env steps at which the scheduler compares trials; none without a scheduler."""
    if spec.scheduler is None:
        return []
    end = int(spec.stop["env_steps"])
    if (median := spec.scheduler.median) is not None:
        every = median.every_env_steps or median.grace_env_steps
        return list(range(median.grace_env_steps, end, every))
    asha = spec.scheduler.asha
    assert asha is not None
    return rungs(asha.grace_env_steps, asha.max_env_steps or end, asha.reduction_factor)


def scheduler_words(spec: Spec) -> str:
    """The scheduler for the terminal; empty without one."""
    if spec.scheduler is None:
        return ""
    name = SeededASHA.name if spec.scheduler.asha is not None else MedianStopping.name
    return in_words(name, objective_of(spec).metric, rungs_of(spec))
