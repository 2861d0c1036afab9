"""The best points of a search, and their scores in a second run with other seeds."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlssl.analysis.labels import point_labels
from rlssl.analysis.objective import OBJECTIVE, Objective, ObjectiveMeter
from rlssl.analysis.points import point_key
from rlssl.analysis.results import Trial
from rlssl.analysis.table import Estimate, estimate_of, format_number
from rlssl.run_files import CONFIRM_FILE
from rlssl.system.files import replace_text
from rlssl.system.json_output import readable_json

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Chosen:
    """A point that a search found good.

    Args:
        values: The searched values by dotted path.
        label: The point in few words.
        scores: The objective of each seed in the search.
    """

    values: Mapping[str, Any]
    label: str
    scores: Sequence[float]


@dataclass(frozen=True)
class ConfirmedRow:
    """A point of a confirmation.

    Args:
        label: The point in few words.
        search: Its score in the search, over the seeds of the search.
        confirmed: Its score with the new seeds.
        sign: 1 if higher scores are better, else -1.
    """

    label: str
    search: Estimate
    confirmed: Estimate
    sign: float = 1.0

    @property
    def optimism(self) -> float:
        """By how much the search found the point better than it is; NaN without a score.

        Example:
            >>> search, confirmed = Estimate(5.0, None, 1), Estimate(3.0, None, 1)
            >>> ConfirmedRow("lr=0.1", search, confirmed).optimism
            2.0
        """
        return self.sign * (self.search.mean - self.confirmed.mean)


def finished_points(
    trials: Sequence[Trial], objective: Objective
) -> list[tuple[Mapping[str, Any], list[float]]]:
    """The points of a run whose seeds have all finished, each with the score of every seed.

    Args:
        trials: The trials of the run.
        objective: What is computed from their results.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(point_key(trial.point), []).append(trial)
    found = []
    for group in groups.values():
        scores = [trial_score(trial, objective) for trial in group if trial.status == "finished"]
        known = [score for score in scores if score is not None]
        if known and len(known) >= len(group[0].sweep_seeds):
            found.append((group[0].point, known))
    return found


def trial_score(trial: Trial, objective: Objective) -> float | None:
    """The objective of a trial; None if it has none.

    It is the trial's own, which has seen every iteration. If the trial followed another objective,
    it is computed from the results that were reported.
    """
    last = trial.results[-1] if trial.results else {}
    if OBJECTIVE in last and Objective.of(trial.spec) == objective:
        return objective.score(last)
    meter = ObjectiveMeter(objective)
    for result in trial.results:
        meter.add(result)
    return meter.value if math.isfinite(meter.value) else None


def best_points(trials: Sequence[Trial], objective: Objective, top: int) -> list[Chosen]:
    """The best finished points of a search, the best one first.

    Args:
        trials: The trials of the search.
        objective: By which the points are compared.
        top: The greatest number of points.
    """
    found = finished_points(trials, objective)
    found.sort(key=lambda one: -objective.sign * sum(one[1]) / len(one[1]))
    labels = point_labels([point for point, _ in found])
    named = zip(found[:top], labels[:top], strict=True)
    return [Chosen(point, label, scores) for (point, scores), label in named]


def write_choice(folder: Path, run: Path, chosen: Sequence[Chosen]) -> None:
    """Writes ``confirm.json`` into the folder of a confirmation.

    Args:
        folder: The folder of the confirmation.
        run: The folder of the search.
        chosen: The points, the best one first.
    """
    points = [vars(one) for one in chosen]
    text = readable_json({"run": str(run), "points": points}, indent=2, default=list)
    replace_text(folder / CONFIRM_FILE, text)


def read_choice(folder: Path) -> tuple[Path, list[Chosen]] | None:
    """The folder of the search, and the points that a confirmation runs; None for another run.

    Raises:
        ValueError: If the file is damaged; names it.
    """
    path = folder / CONFIRM_FILE
    if not path.is_file():
        return None
    try:
        read = json.loads(path.read_bytes())
        return Path(read["run"]), [Chosen(**point) for point in read["points"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error


def confirmed_rows(chosen: Sequence[Chosen], trials: Sequence[Trial]) -> list[ConfirmedRow]:
    """A row for each point: its score in the search, and confirmed.

    Args:
        chosen: From `read_choice`.
        trials: The trials of the confirmation.
    """
    objective = Objective.of(trials[0].spec)
    rows = []
    for one in chosen:
        own = [trial for trial in trials if point_key(trial.point) == point_key(one.values)]
        scores = [trial_score(trial, objective) for trial in own if trial.is_complete]
        confirmed = [score for score in scores if score is not None]
        rows.append(
            ConfirmedRow(
                one.label,
                estimate_of(one.scores, objective),
                estimate_of(confirmed, objective),
                objective.sign,
            )
        )
    return rows


def render_confirmation(rows: Sequence[ConfirmedRow], objective: Objective, run: Path) -> "Table":
    """Builds the table of a confirmation for the terminal.

    Args:
        rows: From `confirmed_rows`.
        objective: What the scores are.
        run: The folder of the search.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"the best points of {run.name}, with new seeds",
        caption=f"{objective.words}; optimism: in the search minus confirmed"
        + ("" if objective.mode == "max" else ", or the reverse: positive is too optimistic"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("point", overflow="fold")
    for column in ("in the search", "confirmed", "optimism"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        optimism = format_number(row.optimism) if math.isfinite(row.optimism) else "n/a"
        table.add_row(*map(Text, (row.label, str(row.search), str(row.confirmed), optimism)))
    return table


def write_confirmation_csv(rows: Sequence[ConfirmedRow], path: Path) -> Path:
    """Writes the rows as CSV in full precision; unknown values are left empty.

    Example:
        >>> import tempfile
        >>> row = ConfirmedRow("lr=0.1", Estimate(5.0, None, 1), Estimate(3.0, None, 2))
        >>> path = write_confirmation_csv([row], Path(tempfile.mkdtemp()) / "confirm.csv")
        >>> print(path.read_text().splitlines()[1])
        lr=0.1,5.0,,,1,3.0,,,2,2.0
    """
    header = ["point"]
    for name in ("search", "confirmed"):
        header += [f"{name}_mean", f"{name}_low", f"{name}_high", f"{name}_num_seeds"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, "optimism"])
        for row in rows:
            cells = [*_cells(row.search), *_cells(row.confirmed), _known(row.optimism)]
            writer.writerow([row.label, *cells])
    return path


def _cells(estimate: Estimate) -> list[float | str]:
    low, high = estimate.interval or ("", "")
    return [_known(estimate.mean), low, high, estimate.num_seeds]


def _known(value: float) -> float | str:
    return value if math.isfinite(value) else ""
