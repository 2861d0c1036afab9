"""`rlssl matrix`: trains every algorithm with every auxiliary loss, and measures their cost.

A row of the file is an algorithm on an environment. Each row is trained without losses and with
each choice of losses. These runs take turns, iteration by iteration, so that a change of the
machine's load affects all of them.
"""

import csv
import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import LEARNER_RESULTS

from rlssl.algorithms.common.learner import NUM_GRADIENT_STEPS
from rlssl.errors import ExitCode, SpecError, suggest
from rlssl.experiment.cluster.connect import start_local
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.overrides import apply_overrides
from rlssl.experiment.spec.yaml_reader import read_document
from rlssl.plugins import with_line
from rlssl.system.stores.places import local_folder, parse_place

TABLE_FILE = "matrix.csv"

#: Names of the algorithms' own losses.
RL_LOSSES = ("total_loss", "loss", "policy_loss", "vf_loss", "critic_loss", "actor_loss")

_KEYS = ("updates", "rows", "losses")
_OPTIONAL_KEYS = ("inputs",)


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The rows and the choices of losses; each row is combined with the choices that fit it."""

    # Timed gradient steps of each combination; its first iteration is not timed.
    updates: int
    # Partial specs, with the key `input`, a word for the kind of observations.
    rows: Sequence[Mapping[str, Any]]
    # Name of a choice -> the section `auxiliary` of the spec.
    losses: Mapping[str, Mapping[str, Any]]
    # Name of a choice -> `input` of the only rows that it is trained with; others: with all rows.
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def choices(self, row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """The choices of losses for a row."""
        return {
            name: losses
            for name, losses in self.losses.items()
            if name not in self.inputs or self.inputs[name] == row.get("input")
        }


@dataclasses.dataclass
class Outcome:
    """The result of an algorithm with a choice of losses."""

    algorithm: str
    input: str
    losses: str
    # The parameters that each loss's gradient reached, as the loss declares; the Learner checks it.
    gradient: str = ""
    updates: int = 0
    updates_per_s: float = math.nan
    # Seconds per update divided by those without losses; median over the rounds.
    overhead: float = math.nan
    # Means of the losses in the first and in the last update, by name.
    first: dict[str, float] = dataclasses.field(default_factory=dict)
    last: dict[str, float] = dataclasses.field(default_factory=dict)
    # What failed; "" if nothing did.
    problem: str = ""


def matrix(source: str, overrides: Sequence[str], *, storage: str) -> int:
    """Trains every combination of the matrix and writes its table.

    Args:
        source: A file, or the name of a matrix that comes with rlssl.
        overrides: Changes of the file, such as "updates=10".
        storage: Folder of the table.

    Returns:
        The exit code: 1 if a combination failed.

    Raises:
        SpecError: If the file cannot be read, or a combination is not a valid spec; nothing was
            started.
    """
    if parse_place(storage) is not None:
        raise SpecError(f"storage '{storage}': the table of a matrix goes into a folder; give one.")
    read = read_matrix(source, overrides)
    for row in read.rows:
        for losses in read.choices(row).values():
            spec_of(row, losses)
    start_local(num_cpus=1)
    outcomes = []
    for row in read.rows:
        for outcome in train_row(row, read.choices(row), read.updates):
            outcomes.append(outcome)
            click.echo(line_of(outcome))
    path = write_table(outcomes, local_folder(storage) / TABLE_FILE)
    click.echo(str(path))
    return ExitCode.TRIAL_FAILED if any(one.problem for one in outcomes) else ExitCode.OK


def read_matrix(source: str, overrides: Sequence[str] = ()) -> Matrix:
    """Reads the matrix in a file.

    Raises:
        SpecError: If the file is not a matrix; names the key.
    """
    document = apply_overrides(read_document(source), overrides)
    for key in document:
        if key not in (*_KEYS, *_OPTIONAL_KEYS):
            known = (*_KEYS, *_OPTIONAL_KEYS)
            raise SpecError(f"unknown key '{key}' of a matrix{suggest(key, known)}")
    if missing := [key for key in _KEYS if not document.get(key)]:
        raise SpecError(f"a matrix needs {missing}; see tune_configs/matrix.yaml.")
    updates, rows, losses = (document[key] for key in _KEYS)
    if type(updates) is not int or updates < 1:
        raise SpecError(f"updates must be a whole number >= 1; got {updates!r}.")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SpecError("rows must list partial specs: {algorithm: ppo, env: {id: CartPole-v1}}.")
    if not isinstance(losses, dict) or not all(isinstance(one, dict) for one in losses.values()):
        raise SpecError("losses must map names to `auxiliary` sections of a spec.")
    inputs = document.get("inputs") or {}
    if not isinstance(inputs, dict) or not inputs.keys() <= losses.keys():
        raise SpecError(
            "inputs must map names of losses of this matrix to the `input` of rows; got "
            f"{inputs!r}."
        )
    return Matrix(updates, rows, losses, inputs)


def spec_of(row: Mapping[str, Any], losses: Mapping[str, Any]) -> Any:
    """The spec of a row with a choice of losses.

    Raises:
        SpecError: If it is not a valid spec; names key, value and fix.
    """
    document = {key: value for key, value in row.items() if key != "input"}
    return load_spec({**document, "auxiliary": dict(losses)})


def train_row(
    row: Mapping[str, Any], choices: Mapping[str, Mapping[str, Any]], updates: int
) -> Iterator[Outcome]:
    """Trains an algorithm with each choice of losses; the choices take turns.

    Args:
        row: A partial spec.
        choices: Name -> ``auxiliary`` section; the others are compared with the first.
        updates: The least number of gradient steps of each choice.
    """
    cells = {name: _Cell(row, name, losses) for name, losses in choices.items()}
    try:
        # The first round allocates memory, compiles and fills the replay; it is not timed.
        for cell in cells.values():
            cell.train(is_timed=False)
        while any(cell.is_going and cell.outcome.updates < updates for cell in cells.values()):
            for cell in cells.values():
                cell.train()
    finally:
        for cell in cells.values():
            cell.stop()
    reference = next(iter(cells.values())).seconds
    for cell in cells.values():
        yield cell.finished(reference)


class _Cell:
    """A row with one choice of losses; its Algorithm is built when it is first trained."""

    def __init__(self, row: Mapping[str, Any], name: str, losses: Mapping[str, Any]) -> None:
        self._config = build_config(spec_of(row, losses))
        self._algorithm: Algorithm | None = None
        self._losses = losses
        algorithm, env = row["algorithm"], row["env"]
        kind = row.get("input") or (env["id"] if isinstance(env, Mapping) else env)
        self.outcome = Outcome(algorithm, kind, name)
        # Seconds per update, one number for each timed round.
        self.seconds: list[float] = []

    @property
    def is_going(self) -> bool:
        return not self.outcome.problem

    def train(self, *, is_timed: bool = True) -> None:
        """Runs one iteration; an error becomes the cell's problem, and other cells continue."""
        if not self.is_going:
            return
        try:
            self._train(is_timed)
        except Exception as error:  # a loss or an environment of the user may raise anything
            self.outcome.problem = with_line(f"{type(error).__name__}: {error}", error)

    def stop(self) -> None:
        if self._algorithm is not None:
            self._algorithm.stop()

    def finished(self, reference: Sequence[float]) -> Outcome:
        """The outcome, compared round by round with the seconds of the reference cell."""
        outcome = self.outcome
        if self.seconds:
            outcome.updates_per_s = 1 / statistics.median(self.seconds)
            pairs = zip(self.seconds, reference, strict=False)
            outcome.overhead = statistics.median(own / other for own, other in pairs)
        not_finite = [key for key, value in outcome.last.items() if not math.isfinite(value)]
        if not_finite and not outcome.problem:
            outcome.problem = f"not finite: {not_finite}"
        return outcome

    def _train(self, is_timed: bool) -> None:
        if self._algorithm is None:
            self._algorithm = self._config.build_algo()
            self.outcome.gradient = _declared(self._algorithm)
        start = time.perf_counter()
        result = self._algorithm.train()
        seconds = time.perf_counter() - start
        learned = result[LEARNER_RESULTS].get(DEFAULT_MODULE_ID, {})
        made = int(learned.get(NUM_GRADIENT_STEPS, 0))
        if not made:
            return  # still collecting the experience with which learning starts
        self.outcome.last = _losses_in(result)
        self.outcome.first = self.outcome.first or self.outcome.last
        if is_timed:
            self.outcome.updates += made
            self.seconds.append(seconds / made)


def _declared(algorithm: Algorithm) -> str:
    """The parameters that each loss declares to reach; the Learner fails if it does not."""
    answers = algorithm.learner_group.foreach_learner(
        lambda learner: {name: loss.trains for name, loss in learner.rl_module.auxiliary.items()}
    )
    trains = next(iter(answers)).get()
    return " ".join(f"{name}:{reached}" for name, reached in trains.items())


def _losses_in(result: Mapping[str, Any]) -> dict[str, float]:
    """The RL loss and all values that the auxiliary losses report, by name."""
    learned = result[LEARNER_RESULTS][DEFAULT_MODULE_ID]
    found = {key: float(learned[key]) for key in RL_LOSSES if key in learned}
    for name, values in result.get("aux", {}).items():
        found |= {f"{name}/{key}": float(value) for key, value in values.items()}
    return found


def line_of(outcome: Outcome) -> str:
    """An outcome as a line for the terminal."""
    words = f"{outcome.algorithm:<8} {outcome.input:<8} {outcome.losses:<22} "
    if outcome.problem:
        return words + outcome.problem
    return words + (
        f"{outcome.updates_per_s:8.1f} updates/s, {outcome.overhead:.2f} times as long as without "
        f"losses; gradients reach {outcome.gradient or 'nothing'}"
    )


def write_table(outcomes: Iterable[Outcome], path: Path) -> Path:
    """Writes all outcomes as CSV; returns the absolute path."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(Outcome)]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for outcome in outcomes:
            cells = [getattr(outcome, name) for name in names]
            writer.writerow([_cell_text(cell) for cell in cells])
    return target


def _cell_text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={one:.4g}" for key, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
