"""A study of Optuna, used directly: Ray's OptunaSearch cannot repeat a point with several seeds.

It also draws no spaces inside of a choice from a file, and saves its state by pickles that may be
older than the trials.
"""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import optuna

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.spec.dimension import LISTS, Dimension, as_text
from rlssl.experiment.spec.schema import OptunaSpec, Spec
from rlssl.experiment.tuning.searchers.points import Point
from rlssl.experiment.tuning.searchers.study_points import Study, StudyPoints

_logger = logging.getLogger(__name__)

#: Attribute of a study in a database: the folder of the run that owns it.
_OWNER = "run"


class OptunaPoints(StudyPoints):
    """Points of a study of Optuna; with a copy of it in a database, if the spec names one."""

    settings: OptunaSpec

    def __init__(self, spec: Spec, folder: Path) -> None:
        super().__init__(spec, folder)
        self._is_stored = True

    def new_study(self) -> Study:
        """An empty study in memory."""
        return OptunaStudy(self.settings, self.space, self.objective.mode)

    def changed(self) -> None:
        """Brings the copy in the database up to date. If it fails, the search goes on."""
        if self.settings.storage is None or self._study is None:
            return
        assert isinstance(self._study, OptunaStudy)
        try:
            copy = open_copy(self.settings.storage, self.folder, self.objective.mode)
            update_copy(copy, self._study.study)
        except Exception as error:  # of any database driver
            if self._is_stored:
                _logger.warning(
                    "cannot write the study to searcher.optuna.storage: %s: %s. The search goes "
                    "on without; trying again.", type(error).__name__, error,
                )  # fmt: skip
            self._is_stored = False
        else:
            self._is_stored = True


class OptunaStudy:
    """A study in memory whose parameters are the searched paths.

    Args:
        settings: The sampler and its options.
        space: The search space.
        mode: "max" or "min".
    """

    def __init__(self, settings: OptunaSpec, space: list[Dimension], mode: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = space
        self.study = optuna.create_study(
            direction=_direction(mode), sampler=sampler_of(settings, space)
        )
        self._running: dict[int, optuna.Trial] = {}

    def ask(self) -> tuple[int, Point]:
        """Suggests a point."""
        trial = self.study.ask()
        self._running[trial.number] = trial
        point = {one.path: one.draw(lambda space: suggest(trial, space)) for one in self.space}
        return trial.number, point

    def add(self, point: Point) -> int:
        """Takes a point that was not asked for."""
        chosen = {
            space: value
            for one in self.space
            for space, value in (one.parameters_of(point[one.path]) or {}).items()
        }
        self.study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params={space.path: _parameter(space, value) for space, value in chosen.items()},
                distributions={space.path: distribution(space) for space in chosen},
            )
        )
        return len(self.study.get_trials(deepcopy=False)) - 1

    def tell(self, number: int, score: float | None) -> None:
        """Takes the score of a point."""
        trial = self._running.pop(number, number)
        if score is None:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, score)


def sampler_of(settings: OptunaSpec, space: list[Dimension]) -> optuna.samplers.BaseSampler:
    """The sampler that the settings name."""
    given: dict[str, Any] = {"seed": settings.seed}
    if settings.n_startup_trials is not None and settings.sampler != "random":
        given["n_startup_trials"] = settings.n_startup_trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.sampler == "tpe":
            has_inner = any(True for one in space for _ in one.inner)
            return optuna.samplers.TPESampler(
                multivariate=settings.multivariate,
                # Points that run count as bad ones, so that others are suggested meanwhile.
                constant_liar=True,
                group=has_inner and settings.multivariate is not False,
                **given,
            )
        if settings.sampler == "cmaes":
            return optuna.samplers.CmaEsSampler(**given)
        if settings.sampler == "gp":
            return optuna.samplers.GPSampler(**given)
        return optuna.samplers.RandomSampler(**given)


def suggest(trial: optuna.Trial, space: Dimension) -> Any:
    """A value of a distribution, or the index of a value of a choice."""
    domain = distribution(space)
    if isinstance(domain, optuna.distributions.CategoricalDistribution):
        choices = list(domain.choices)
        return choices.index(trial.suggest_categorical(space.path, choices))
    low, high, step, log = domain.low, domain.high, domain.step, domain.log
    is_int = isinstance(domain, optuna.distributions.IntDistribution)
    draw: Any = trial.suggest_int if is_int else trial.suggest_float
    return _rounded(space, draw(space.path, low, high, step=step, log=log))


def distribution(space: Dimension) -> Any:
    """Optuna's distribution of a space.

    Example:
        >>> distribution(Dimension("training.lr", "loguniform", (0.1, 1)))
        FloatDistribution(high=1.0, log=True, low=0.1, step=None)
    """
    if space.kind in LISTS:
        return optuna.distributions.CategoricalDistribution(_names(space))
    low, high = space.bounds
    step = space.arguments[2] if len(space.arguments) == 3 else None
    is_log = "log" in space.kind
    if "randint" in space.kind:
        return optuna.distributions.IntDistribution(low, high, is_log, 1 if is_log else step or 1)
    # Optuna has no steps on a logarithmic scale: the values are rounded.
    return optuna.distributions.FloatDistribution(low, high, is_log, None if is_log else step)


def _names(space: Dimension) -> list[str]:
    """The values of a choice as texts, because Optuna takes no mappings, and 1 as True."""
    plain = [value if isinstance(value, str) else as_text(value) for value in space.arguments]
    return plain if len(set(plain)) == len(plain) else [as_text(one) for one in space.arguments]


def _parameter(space: Dimension, value: Any) -> Any:
    if space.kind in LISTS:
        return _names(space)[value]
    return value if "randint" in space.kind else float(value)


def _rounded(space: Dimension, value: Any) -> Any:
    """Rounds to a multiple of q, as Ray Tune does."""
    if not space.kind.startswith("qlog"):
        return value
    low, high, step = space.arguments
    rounded = min(max(round(value / step) * step, low), high)
    return rounded if "randint" in space.kind else float(rounded)


def _direction(mode: str) -> optuna.study.StudyDirection:
    directions = optuna.study.StudyDirection
    return directions.MAXIMIZE if mode == "max" else directions.MINIMIZE


def open_copy(url: str, folder: Path, mode: str, *, is_new: bool = False) -> optuna.Study:
    """The study of a run in a database; it is created if there is none.

    Args:
        url: As ``searcher.optuna.storage``.
        folder: The run's folder; its name is that of the study.
        mode: "max" or "min".
        is_new: Whether the run begins; an earlier run in the same folder may have left its study.

    Raises:
        SpecError: If the database has a study of this name that belongs to another run.
    """
    study = optuna.create_study(
        storage=os.path.expandvars(url),
        study_name=folder.name,
        direction=_direction(mode),
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )
    owner = study.user_attrs.get(_OWNER)
    if owner is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_OWNER, str(folder))
    elif owner != str(folder):
        raise SpecError(
            f"searcher.optuna.storage: the database has a study '{folder.name}' already, of "
            f"{owner or 'another program'}. Give the sweep another name, or use another database."
        )
    if is_new and study.get_trials(deepcopy=False):
        optuna.delete_study(study_name=folder.name, storage=os.path.expandvars(url))
        return open_copy(url, folder, mode)
    return study


def check_database(url: str) -> None:
    """Checks that a database can be opened.

    Raises:
        SpecError: If the URL is wrong, or an environment variable in it is not set.
        ResourceError: If the database cannot be reached.
    """
    expanded = os.path.expandvars(url)
    if "$" in expanded:
        raise SpecError(f"searcher.optuna.storage '{url}': the environment variable is not set.")
    if "://" not in expanded:
        raise SpecError(
            f"searcher.optuna.storage must be a URL, as sqlite:///studies.db; got '{url}'."
        )
    try:
        optuna.storages.get_storage(expanded)
    except Exception as error:  # of any database driver
        words = str(error).splitlines()[0]
        raise ResourceError(f"searcher.optuna.storage '{url}' cannot be opened: {words}") from error


def update_copy(copy: optuna.Study, study: optuna.Study) -> None:
    """Adds what a copy does not have yet: new trials, and results of running ones."""
    known = copy.get_trials(deepcopy=False)
    trials = study.get_trials(deepcopy=False)
    for number, trial in enumerate(trials):
        if number >= len(known):
            copy.add_trial(trial)
        elif trial.state.is_finished() and not known[number].state.is_finished():
            value = trial.value if trial.state == optuna.trial.TrialState.COMPLETE else None
            copy.tell(number, value, state=trial.state)
