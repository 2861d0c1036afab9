"""What Tune runs for a spec: its trials, their order, and the scheduler that stops them."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import ray
from ray.tune import TuneConfig, Tuner
from ray.tune.experiment import Trial

from rlssl.analysis.points import read_points
from rlssl.experiment.spec.schema import HyperoptSpec, OptunaSpec, Spec
from rlssl.experiment.spec.search_checks import has_population, objective_of
from rlssl.experiment.spec.search_space import (
    adapts,
    draw_points,
    num_points,
    num_trials,
    search_seed,
)
from rlssl.experiment.tuning.live_table import SweepProgress
from rlssl.experiment.tuning.process_reuse import reuses_processes
from rlssl.experiment.tuning.schedulers.building import scheduler_of, scheduler_words
from rlssl.experiment.tuning.searchers import (
    ListedPoints,
    Point,
    PointSearcher,
    label_of,
    trial_key,
    write_points,
)
from rlssl.experiment.tuning.searchers.earlier_sweep import earlier_points
from rlssl.experiment.tuning.searchers.journal import Journal
from rlssl.experiment.tuning.searchers.study_points import StudyPoints
from rlssl.experiment.tuning.trial_config import SEED_KEY, point_of
from rlssl.ray_internals.tuning import tune_config_of

#: Every result has this metric, which Tune wants to know. Nothing here is ranked by Tune.
METRIC, MODE = "episode_return_mean", "max"

#: Trials that wait for resources: enough for a cluster that grows while it is used.
_MIN_WAITING = 200


def tune_config(
    spec: Spec,
    folder: Path,
    points: Sequence[Point],
    *,
    ended: Mapping[str, float | None] | None = None,
    folders: Mapping[str, str] | None = None,
) -> TuneConfig:
    """Tune's settings for a sweep over ``points``, with every seed of ``spec``.

    Args:
        spec: The spec of the sweep.
        folder: The run's folder. If the sweep ran before, its scheduler continues.
        points: From `draw_points`, or from the run's ``points.json``; without meaning if the
            searcher adapts.
        ended: Scores of the trials that do not run again, by `trial_key`.
        folders: Key of a trial -> name of the folder in which it continues.
    """
    scheduler = scheduler_of(spec, folder)
    at_a_time = max_concurrent(spec)
    searcher = PointSearcher(
        new_study(spec, folder) if adapts(spec) else ListedPoints(points),
        spec.seeds,
        objective=objective_of(spec),
        early_stops=scheduler,
        ended=ended,
        max_points=at_a_time,
    )
    total = num_points(spec) if adapts(spec) else len(points)
    # Without it, Tune lets a single trial wait for resources. It does not limit running ones.
    waiting: int | None = max(_MIN_WAITING, int(ray.cluster_resources().get("CPU", 0)))
    if adapts(spec):
        # Late suggestions know more scores.
        waiting = None if at_a_time is None else at_a_time * len(spec.seeds)
    return TuneConfig(
        metric=METRIC,
        mode=MODE,
        num_samples=total * len(spec.seeds) - len(ended or {}),
        search_alg=searcher,
        max_concurrent_trials=waiting,
        scheduler=scheduler,
        reuse_actors=reuses_processes(spec),
        trial_dirname_creator=functools.partial(trial_folder_name, known=folders or {}),
    )


def continue_search(tuner: Tuner, spec: Spec, folder: Path, folders: Mapping[str, str]) -> None:
    """Gives a restored Tuner today's searcher and scheduler, with the state that the run saved.

    Tune saves no scheduler, and the searcher that it saved may be of an earlier version. Tune
    itself restores the searcher's state.

    Args:
        tuner: From ``Tuner.restore``.
        spec: The spec of the sweep.
        folder: The run's folder.
        folders: Key of each trial that has a folder -> the folder's name.
    """
    saved = tune_config_of(tuner)
    # Earlier versions left the points to Tune.
    has_points = isinstance(saved.search_alg, PointSearcher)
    points = saved_points(spec, folder) if has_points else []
    today = tune_config(spec, folder, points, folders=folders)
    saved.scheduler, saved.reuse_actors = today.scheduler, today.reuse_actors
    if has_points:
        saved.search_alg = today.search_alg
        saved.trial_dirname_creator = today.trial_dirname_creator


def saved_points(spec: Spec, folder: Path) -> list[Point]:
    """The points of a run; if ``points.json`` is lost or damaged, they are drawn again."""
    try:
        points: list[Point] = [point.values for point in read_points(folder)]
    except ValueError as error:
        click.echo(f"{error} Drawing the same points again.", err=True)
        points = []
    return points or draw_and_list_points(spec, folder)


def new_study(spec: Spec, folder: Path) -> StudyPoints:
    """The points of a searcher that adapts; a study continues if the run's folder has its journal.

    The modules of the studies import optional packages.
    """
    assert spec.searcher is not None
    if spec.searcher.optuna is not None:
        from rlssl.experiment.tuning.searchers.optuna_study import OptunaPoints

        return OptunaPoints(spec, folder)
    from rlssl.experiment.tuning.searchers.hyperopt_study import HyperoptPoints

    return HyperoptPoints(spec, folder)


def check_study(spec: Spec) -> list[tuple[Point, float]]:
    """Checks what a study needs from outside, before anything starts.

    Returns:
        Points and scores of an earlier sweep, with which the study begins.

    Raises:
        SpecError: If the earlier sweep searched another space, or the URL of the database is wrong.
        ResourceError: If the database cannot be opened.
    """
    if not adapts(spec):
        return []
    assert spec.searcher is not None
    if spec.searcher.optuna is not None and spec.searcher.optuna.storage is not None:
        from rlssl.experiment.tuning.searchers.optuna_study import check_database

        check_database(spec.searcher.optuna.storage)
    return earlier_points(spec)


def begin_study(spec: Spec, folder: Path, earlier: Sequence[tuple[Point, float]]) -> None:
    """Writes the journal of a new study, and its copy in the database, if the searcher adapts.

    Raises:
        SpecError: If the database has a study of another run with this name.
    """
    if not adapts(spec):
        return
    Journal(folder, search_seed(spec), earlier=list(earlier)).write()
    assert spec.searcher is not None
    if spec.searcher.optuna is not None and spec.searcher.optuna.storage is not None:
        from rlssl.experiment.tuning.searchers.optuna_study import open_copy

        url = spec.searcher.optuna.storage
        open_copy(url, folder, objective_of(spec).mode, is_new=True)


def max_concurrent(spec: Spec) -> int | None:
    """Number of points that run at the same time; None: as many as the cluster has room for."""
    settings = spec.searcher.settings if spec.searcher is not None else None
    return settings.max_concurrent if isinstance(settings, OptunaSpec | HyperoptSpec) else None


def draw_and_list_points(spec: Spec, folder: Path) -> list[Point]:
    """Draws the points of a search, and lists them in the run's ``points.json``.

    A searcher that adapts lists its points itself, one by one.
    """
    if adapts(spec):
        return []
    points: list[Point] = list(draw_points(spec))
    write_points(folder, points, search_seed=search_seed(spec), are_members=has_population(spec))
    return points


def progress_of(spec: Spec, num_ended_before: int = 0) -> SweepProgress:
    """What shows the sweep while it runs.

    Args:
        spec: The spec of the sweep.
        num_ended_before: Number of trials that ended in an earlier process, and that Tune does not
            know.
    """
    objective = objective_of(spec)
    size = (num_trials(spec), spec.stop[spec.clock])
    words = scheduler_words(spec)
    return SweepProgress(*size, words, objective, num_ended_before, spec.clock)


def trial_folder_name(trial: Trial, known: Mapping[str, str] | None = None) -> str:
    """The name of a trial's folder: its point, its seed and its id; or the known name."""
    continued = (known or {}).get(trial_key(point_of(trial.config), trial.config[SEED_KEY]))
    if continued is not None:
        return continued
    run = Path(trial.storage.experiment_fs_path)
    words = label_of(run, point_of(trial.config))
    label = "".join(letter if letter.isalnum() or letter in "-._=+" else "_" for letter in words)
    return f"{label[:60]}-seed{trial.config[SEED_KEY]}-{trial.trial_id}"
