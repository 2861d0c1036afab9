"""What Tune runs for a spec: its trials, their order, and the scheduler that stops them."""

from collections.abc import Sequence
from pathlib import Path

import ray
from ray.tune import TuneConfig, Tuner
from ray.tune.experiment import Trial

from rlssl.analysis.points import read_points
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.tuning.searchers import (
    ListedPoints,
    Point,
    PointSearcher,
    label_of,
)
from rlssl.experiment.tuning.seeded_asha import SeededASHA
from rlssl.experiment.tuning.trainable import SEED_KEY, point_of
from rlssl.ray_internals.tuning import tune_config_of

#: Tune ranks trials by this metric.
METRIC, MODE = "episode_return_mean", "max"

#: Trials that wait for resources: enough for a cluster that grows while it is used.
_MIN_WAITING = 200


def tune_config(spec: Spec, folder: Path, points: Sequence[Point]) -> TuneConfig:
    """Tune's settings for a sweep over ``points``, with every seed of ``spec``.

    Args:
        spec: The spec of the sweep.
        folder: The run's folder. If the sweep ran before, its scheduler continues.
        points: From `draw_points`, or from the run's ``points.json``.
    """
    scheduler = scheduler_of(spec, folder)
    searcher = PointSearcher(
        ListedPoints(points),
        spec.seeds,
        metric=METRIC if scheduler is None else scheduler.ranked_by,
        early_stops=scheduler,
    )
    return TuneConfig(
        metric=METRIC,
        mode=MODE,
        num_samples=len(points) * len(spec.seeds),
        search_alg=searcher,
        # Without it, Tune lets a single trial wait for resources. It does not limit running ones.
        max_concurrent_trials=max(_MIN_WAITING, int(ray.cluster_resources().get("CPU", 0))),
        scheduler=scheduler,
        trial_dirname_creator=trial_folder_name,
    )


def continue_search(tuner: Tuner, spec: Spec, folder: Path) -> None:
    """Gives a restored Tuner today's searcher and scheduler, with the state that the run saved.

    Tune saves no scheduler, and the searcher that it saved may be of an earlier version. Tune
    itself restores the searcher's state.
    """
    points = [point.values for point in read_points(folder)]
    saved, today = tune_config_of(tuner), tune_config(spec, folder, points)
    saved.scheduler = today.scheduler
    if points:
        saved.search_alg = today.search_alg


def scheduler_of(spec: Spec, folder: Path) -> SeededASHA | None:
    """The scheduler of a sweep; it continues if the run's folder has its file."""
    if spec.scheduler is None:
        return None
    asha = spec.scheduler.asha
    return SeededASHA(
        metric=asha.metric,
        mode=asha.mode,
        grace_env_steps=asha.grace_env_steps,
        max_env_steps=asha.max_env_steps or int(spec.stop["env_steps"]),
        reduction_factor=asha.reduction_factor,
        seeds=spec.seeds,
        folder=folder,
    )


def trial_folder_name(trial: Trial) -> str:
    """The name of a trial's folder: its point, its seed and its id."""
    run = Path(trial.storage.experiment_fs_path)
    words = label_of(run, point_of(trial.config))
    label = "".join(letter if letter.isalnum() or letter in "-._=+" else "_" for letter in words)
    return f"{label[:60]}-seed{trial.config[SEED_KEY]}-{trial.trial_id}"
