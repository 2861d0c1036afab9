"""Builds the scheduler of a sweep from its spec."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlssl.errors import SpecError
from rlssl.experiment.rungs import rungs_of
from rlssl.experiment.spec.loading import at_point
from rlssl.experiment.spec.schema import PbtSpec, Spec, dump
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.spec.search_space import dimensions
from rlssl.experiment.tuning.schedulers.explore import Explorer
from rlssl.experiment.tuning.schedulers.median_stopping import MedianStopping
from rlssl.experiment.tuning.schedulers.pbt import PopulationBasedTraining
from rlssl.experiment.tuning.schedulers.point_scheduler import PointScheduler, in_words
from rlssl.experiment.tuning.schedulers.seeded_asha import SeededASHA


def scheduler_of(spec: Spec, folder: Path) -> PointScheduler | PopulationBasedTraining | None:
    """The scheduler of a sweep; it continues if the run's folder has its file."""
    if spec.scheduler is None:
        return None
    if spec.scheduler.pbt is not None:
        return _population(spec, spec.scheduler.pbt, folder)
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


def _population(spec: Spec, pbt: PbtSpec, folder: Path) -> PopulationBasedTraining:
    def fits(values: Mapping[str, Any]) -> bool:
        try:
            at_point(spec, values, spec.seeds[0])
        except SpecError:
            return False
        return True

    return PopulationBasedTraining(
        objective=objective_of(spec),
        boundaries=rungs_of(spec),
        quantile=pbt.quantile,
        explorer=Explorer(dimensions(spec.search), pbt.resample_probability, pbt.factors, fits),
        replay=pbt.replay,
        seed=pbt.seed,
        folder=folder,
    )


def scheduler_words(spec: Spec) -> str:
    """The scheduler for the terminal; empty without one."""
    if spec.scheduler is None:
        return ""
    names = {
        "asha": SeededASHA.name,
        "median": MedianStopping.name,
        "pbt": PopulationBasedTraining.name,
    }
    (name,) = dump(spec.scheduler)
    return in_words(names[name], objective_of(spec).metric, rungs_of(spec))
