"""The lineage of a population: which member continued from which, with which values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlssl.analysis.objective import Objective
from rlssl.analysis.points import point_key
from rlssl.analysis.results import Run, Trial
from rlssl.run_files import LINEAGE_FILE
from rlssl.system.json_output import readable_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Exploit:
    """A line of ``lineage.jsonl``: a member continues from another one, with changed values.

    Args:
        compared_at: Env steps at which all members were compared.
        env_steps: Env steps from which the new values are used.
        member: Index of the member that is replaced; its point in ``points.json``.
        source: Index of the member from which it continues.
        score: Score of the member.
        source_score: Score of the source.
        old: The member's values before, by dotted path.
        copied: The source's values.
        new: The member's values from now on.
        checkpoint: The source's checkpoint, relative to the run's folder.

    Example:
        >>> values = {"training.lr": 0.1}
        >>> at = dict(compared_at=100, env_steps=104, checkpoint="a/checkpoint_000000")
        >>> one = Exploit(
        ...     member=1, source=0, score=1.0, source_score=2.0, old=values, copied=values,
        ...     new={"training.lr": 0.12}, **at)
        >>> one.words
        'member 1 continued from member 0 at 104 env steps: lr=0.12'
    """

    compared_at: int
    env_steps: int
    member: int
    source: int
    score: float
    source_score: float
    old: Mapping[str, Any]
    copied: Mapping[str, Any]
    new: Mapping[str, Any]
    checkpoint: str

    @property
    def words(self) -> str:
        """The exploit for the terminal."""
        return (
            f"member {self.member} continued from member {self.source} at {self.env_steps:,} env "
            f"steps: {values_in_words(self.new)}"
        )

    @property
    def line(self) -> str:
        """The line of the file."""
        return readable_json(asdict(self)) + "\n"


def values_in_words(values: Mapping[str, Any]) -> str:
    """Values with the last parts of their paths.

    Example:
        >>> values_in_words({"training.lr": 0.00123456, "training.n_step": 3})
        'lr=0.001235, n_step=3'
    """
    texts = {
        path: f"{value:.4g}" if isinstance(value, float) else str(value)
        for path, value in values.items()
    }
    return ", ".join(f"{path.rpartition('.')[2]}={text}" for path, text in texts.items())


def read_lineage(folder: str | Path) -> list[Exploit]:
    """The exploits of a run, in their order; none without a file.

    The last line is left out if a kill cut it off.

    Raises:
        ValueError: If another line is damaged; names file and line.

    Example:
        >>> read_lineage("/nowhere")
        []
    """
    path = Path(folder, LINEAGE_FILE)
    if not path.is_file():
        return []
    found = []
    *lines, _cut_off = path.read_text("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            found.append(Exploit(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}") from error
    return found


def plot_lineage(run: Run, exploits: Sequence[Exploit], path: str | Path) -> Path:
    """Saves a PNG: the objective of every member over env steps, the exploits, and the values.

    Args:
        run: The run.
        exploits: From `read_lineage`.
        path: Path of the PNG; its folder must exist.

    Returns:
        The absolute path.

    Raises:
        ModuleNotFoundError: If matplotlib is missing; names the extra to install.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the lineage's picture needs matplotlib: pip install 'rlssl[report]'", name=error.name
        ) from error
    members = members_of(run)
    used = [*(point.values for point in run.points), *(one.new for one in exploits)]
    numbers = [key for key in run.points[0].values if _are_numbers([each[key] for each in used])]
    figure = Figure(figsize=(8, 4 + 2 * len(numbers)), layout="constrained")
    top, *rest = np.atleast_1d(
        figure.subplots(1 + len(numbers), 1, sharex=True, height_ratios=[2, *([1] * len(numbers))])
    )
    curves = {index: _curve(trial) for index, trial in members.items()}
    for index, (steps, scores) in curves.items():
        top.plot(steps, scores, color=_color(index), label=f"member {index}")
    for one in exploits:
        _draw_exploit(top, one)
    top.set_ylabel(Objective.of(next(iter(members.values())).spec).words)
    top.legend(fontsize="small")
    for axes, key in zip(rest, numbers, strict=True):
        _draw_values(axes, key, run, exploits, {i: max(c[0], default=0) for i, c in curves.items()})
    (rest[-1] if rest else top).set_xlabel("env steps")
    target = Path(path).resolve()
    figure.savefig(target, format="png", dpi=150)
    return target


def members_of(run: Run) -> dict[int, Trial]:
    """Index of a member -> its trial."""
    index_of = {point_key(one.values): one.index for one in run.points}
    found = {index_of.get(point_key(each.point)): each for each in run.trials}
    return {index: each for index, each in sorted(found.items()) if index is not None}


def values_at_the_end(run: Run, exploits: Sequence[Exploit]) -> dict[int, Mapping[str, Any]]:
    """Index of a member -> the values that it used last."""
    return {one.index: one.values for one in run.points} | {one.member: one.new for one in exploits}


def _curve(trial: Trial) -> tuple[list[int], list[float]]:
    objective = Objective.of(trial.spec)
    scored = [(int(row["env_steps"]), objective.score(row)) for row in trial.results]
    known = [(steps, score) for steps, score in scored if score is not None]
    return [steps for steps, _ in known], [score for _, score in known]


def _draw_exploit(axes: "Axes", one: Exploit) -> None:
    """An arrow from the score of the source to that of the member."""
    axes.annotate(
        "",
        xy=(one.env_steps, one.score),
        xytext=(one.env_steps, one.source_score),
        arrowprops={"arrowstyle": "->", "color": _color(one.source)},
    )


def _draw_values(
    axes: "Axes", key: str, run: Run, exploits: Sequence[Exploit], ends: Mapping[int, int]
) -> None:
    """The value of every member over env steps, as steps."""
    shown: list[float] = []
    for point in run.points:
        own = [one for one in exploits if one.member == point.index]
        steps = [0, *(one.env_steps for one in own), max(ends.get(point.index, 0), 0)]
        values = [point.values[key], *(one.new[key] for one in own)]
        shown += values
        axes.step(steps, [*values, values[-1]], where="post", color=_color(point.index))
    if min(shown) > 0 and max(shown) > 20 * min(shown):
        axes.set_yscale("log")
    axes.set_ylabel(key.rpartition(".")[2])


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _color(member: int) -> str:
    return _COLORS[member % len(_COLORS)]
