"""Points that a study suggests by the scores of earlier points."""

import logging
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import click

from rlssl.analysis.points import point_key
from rlssl.experiment.spec.schema import HyperoptSpec, OptunaSpec, Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.spec.search_space import dimensions, num_points, random_points
from rlssl.experiment.tuning.searchers.journal import Journal, Told
from rlssl.experiment.tuning.searchers.points import Point

_logger = logging.getLogger(__name__)

#: Suggestions until one is a new point. Then random points are tried, as often.
_MAX_DRAWS = 100

#: Seconds after which a journal that could not be written is tried again.
_RETRY_S = 10.0


class Study(Protocol):
    """A sampler with its history. The same calls give the same suggestions."""

    def ask(self) -> tuple[int, Point]:
        """Suggests a point; the number is for `tell`."""

    def add(self, point: Point) -> int:
        """Takes a point that was not asked for; the number is for `tell`."""

    def tell(self, number: int, score: float | None) -> None:
        """Takes the score of a point; None if it failed. Each point is told once."""


class StudyPoints:
    """Points of a study, which is built again from the run's journal after a restart.

    A study lives in memory. Its seed and the order of the events in the journal determine it: the
    journal is played again, call by call. Thus no state of a sampler is saved, and a kill between
    any two steps changes no suggestion. A point is in the journal before anybody sees it.

    If the installed library suggests other points than the journal has, the study takes those of
    the journal.

    Args:
        spec: The spec of the sweep.
        folder: The run's folder.
    """

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.space = dimensions(spec.search)
        self.num_points = num_points(spec)
        self.objective = objective_of(spec)
        assert spec.searcher is not None
        settings = spec.searcher.settings
        assert isinstance(settings, OptunaSpec | HyperoptSpec)
        self.settings = settings
        self.num_given = 0
        self._journal: Journal | None = None
        self._study: Study | None = None
        # Index of a point -> number in the study.
        self._numbers: dict[int, int] = {}
        # A suggestion that the journal does not have yet, because the file cannot be written.
        self._waiting: tuple[int, Point] | None = None
        self._has_no_more = False
        self._next_write = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles searchers; the journal is in the run's folder."""
        return type(self), (self.spec, self.folder)

    def new_study(self) -> Study:
        """A study without history."""
        raise NotImplementedError

    def changed(self) -> None:
        """Called after each event."""

    @property
    def journal(self) -> Journal:
        """The history of the run."""
        if self._journal is None:
            self._journal = Journal.read(self.folder, self.settings.seed)
        return self._journal

    @property
    def study(self) -> Study:
        """The study after the events of the journal."""
        if self._study is None:
            self._study = self.new_study()
            self._replay(self._study)
            self.changed()
        return self._study

    @property
    def is_exhausted(self) -> bool:
        """Whether there will never be another point."""
        if self.num_given < len(self.journal.points):
            return False
        return self._has_no_more or len(self.journal.points) >= self.num_points

    def next_point(self) -> Point | None:
        """The next point: first those of the journal, then new ones; None if there is none."""
        if self.num_given == len(self.journal.points) and not self._suggest():
            return None
        self.num_given += 1
        return self.journal.points[self.num_given - 1]

    def told(self, point: Point, score: float | None) -> None:
        """Takes the mean over the seeds of a point; None if a seed failed.

        A point is told once. A point that failed may be told again, after its trials were resumed.
        """
        keys = [point_key(one) for one in self.journal.points]
        index = keys.index(point_key(point))
        before = [one.score for one in self.journal.told if one.index == index]
        if before and (before[-1] is not None or score is None):
            return
        event = Told(index, score, after=len(self.journal.points))
        self._tell(self.study, event, is_again=bool(before))
        self.journal.told.append(event)
        self._write()
        self.changed()

    def _suggest(self) -> bool:
        """Adds a new point to the journal; whether there is one."""
        if self.is_exhausted:
            return False
        if self._waiting is None:
            self._waiting = self._ask(self.study, self.journal.keys)
        if self._waiting is None:
            self._has_no_more = True
            click.echo(
                f"The search ends after {len(self.journal.points)} points: the searcher finds no "
                "point that is new."
            )
            return False
        if time.monotonic() < self._next_write:
            return False
        number, point = self._waiting
        self.journal.points.append(point)
        if not self._write():
            self.journal.points.pop()
            return False
        self._numbers[len(self.journal.points) - 1] = number
        self._waiting = None
        self.changed()
        return True

    def _write(self) -> bool:
        try:
            self.journal.write()
        except OSError as error:
            self._next_write = time.monotonic() + _RETRY_S
            _logger.warning("cannot write the points of %s: %s. Trying again.", self.folder, error)
            return False
        return True

    def _ask(self, study: Study, known: set[str]) -> tuple[int, Point] | None:
        """A point that is not known; None if there is none."""
        for _ in range(_MAX_DRAWS):
            number, point = study.ask()
            if point_key(point) not in known:
                return number, point
            study.tell(number, None)
        drawn = random_points(self.space, seed=[self.settings.seed, len(known)])
        for _, point in zip(range(_MAX_DRAWS), drawn, strict=False):
            if point_key(point) not in known:
                return study.add(point), point
        return None

    def _tell(self, study: Study, event: Told, *, is_again: bool) -> None:
        if is_again:  # a study takes one result for each of its trials
            self._numbers[event.index] = study.add(self.journal.points[event.index])
        study.tell(self._numbers[event.index], event.score)

    def _replay(self, study: Study) -> None:
        journal, told, done = self.journal, deque(self.journal.told), set[int]()
        for point, score in journal.earlier:
            study.tell(study.add(point), score)
        known = {point_key(point) for point, _ in journal.earlier}

        def tell(until: int) -> None:
            while told and told[0].after <= until:
                event = told.popleft()
                self._tell(study, event, is_again=event.index in done)
                done.add(event.index)

        num_different = 0
        for index, point in enumerate(journal.points):
            tell(until=index)
            number, asked = self._ask(study, known) or (None, None)
            if asked is None or point_key(asked) != point_key(point):
                num_different += 1
                if number is not None:
                    study.tell(number, None)
                number = study.add(point)
            assert number is not None
            self._numbers[index] = number
            known.add(point_key(point))
        tell(until=len(journal.points))
        if num_different:
            click.echo(
                f"The installed searcher suggests other points than the run's, at {num_different} "
                f"of {len(journal.points)}. The run's points are kept.",
                err=True,
            )
