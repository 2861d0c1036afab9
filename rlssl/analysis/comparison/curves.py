"""The curves of both sides: as two lines of text, and as a picture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlssl.analysis.comparison.sides import Side
from rlssl.analysis.curves import (
    FloatArray,
    figure_of_groups,
    metric_without_episodes,
    returns_of,
)
from rlssl.analysis.objective import AREA
from rlssl.analysis.protocol import differences
from rlssl.analysis.results import Trial
from rlssl.analysis.sparkline import BLOCKS, bars
from rlssl.analysis.table import format_number
from rlssl.clocks import ENV_STEPS, UPDATES, WORDS, steps_of, unit_of

_RETURN = "episode_return_mean"


@dataclass(frozen=True)
class TextCurves:
    """Curves on one scale of both axes.

    Args:
        metric: What is drawn.
        lines: For each side, a bar for each of the equal parts of the env steps.
        env_steps: The env steps at the left and the right end.
        heights: The values of the lowest and of the highest bar.
        symbols: The bars, from low to high.
        unit: What the steps count.
    """

    metric: str
    lines: tuple[str, ...]
    env_steps: tuple[int, int]
    heights: tuple[float, float]
    symbols: str = BLOCKS
    unit: str = WORDS[ENV_STEPS]

    @property
    def caption(self) -> str:
        """What the bars mean, in one line."""
        low, high = map(format_number, self.heights)
        left, right = self.env_steps
        heights = f"{self.symbols[0]} {low} to {self.symbols[-1]} {high}"
        steps = f"{left:,} to {right:,}" if left < right else f"at {left:,}"
        return f"{self.metric}, mean over seeds: {heights}; {steps} {self.unit}"


def text_curves(
    sides: Sequence[Side], metric: str | None = None, *, width: int = 40, symbols: str = BLOCKS
) -> TextCurves | None:
    """Curves of the sides as bars.

    A bar is the mean over the seeds that have a value there. Where no seed has one, it is blank.

    Args:
        sides: The sides, whose counted trials are drawn.
        metric: Key of the results; None, or without values in the results: the return, as a mean
            of the last 20 episodes.
        width: The number of bars.
        symbols: The bars, from low to high.

    Returns:
        The curves; None if no trial has a value.
    """
    name = _RETURN if metric in (None, AREA) else str(metric)
    seeds = [[_series(trial, name) for trial in side.counted] for side in sides]
    if name != _RETURN and not any(len(steps) for side in seeds for steps, _ in side):
        return text_curves(sides, None, width=width, symbols=symbols)
    ends = [steps[[0, -1]] for side in seeds for steps, _ in side if len(steps)]
    if not ends:
        return None
    left, right = min(end[0] for end in ends), max(end[1] for end in ends)
    edges = np.linspace(left, right, width)
    heights = [_mean_heights(side, edges) for side in seeds]
    known = np.concatenate(heights)
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    lines = tuple(bars(side.tolist(), low, high, symbols=symbols) for side in heights)
    trials = [trial for side in sides for trial in side.counted]
    clocks = {trial.clock for trial in trials}
    words = "return" if name == _RETURN else name
    if name == _RETURN and clocks == {UPDATES}:
        words = metric_without_episodes(trials[0].spec)
    steps = (int(left), int(right))
    return TextCurves(words, lines, steps, (low, high), symbols, unit_of(clocks))


def share_an_axis(unlike: Iterable[str]) -> bool:
    """Whether curves may be on one axis: returns of two environments have two scales.

    Args:
        unlike: From `rlssl.analysis.protocol.differences`.

    Example:
        >>> share_an_axis(["environment: CartPole-v1 and Pendulum-v1"])
        False
    """
    return not any(one.startswith(("environment:", "options of the")) for one in unlike)


def save_picture(first: Side, second: Side, path: str | Path) -> Path:
    """Saves the learning curves of both sides as a picture: PNG, SVG or PDF, by its suffix.

    Returns:
        The absolute path.

    Raises:
        ModuleNotFoundError: If matplotlib is missing; names the extra to install.
    """
    groups = {f"A: {first.name}": first.trials, f"B: {second.name}": second.trials}
    target = Path(path).resolve()
    tasks = " and ".join(dict.fromkeys(side.protocol.task for side in (first, second)))
    own_axes = not share_an_axis(differences(first.protocol, second.protocol))
    figure_of_groups(groups, title=tasks, own_axes=own_axes).savefig(target, dpi=150)
    return target


def _series(trial: Trial, metric: str) -> tuple[FloatArray, FloatArray]:
    """Env steps and values of one trial."""
    if metric == _RETURN:
        return returns_of(trial) or (np.empty(0), np.empty(0))
    rows = [
        (steps_of(row), row[metric])
        for row in trial.results
        if isinstance(row.get(metric), int | float) and np.isfinite(row[metric])
    ]
    steps, values = np.array(rows, np.float64).reshape(-1, 2).T
    return steps, values


def _mean_heights(seeds: Sequence[tuple[FloatArray, FloatArray]], edges: FloatArray) -> FloatArray:
    """[width], NaN where no seed has a value."""
    rows = [
        np.interp(edges, steps, values, left=np.nan, right=np.nan)
        for steps, values in seeds
        if len(steps)
    ]
    if not rows:
        return np.full(len(edges), np.nan)
    stacked = np.stack(rows)
    counts = np.isfinite(stacked).sum(axis=0)
    sums = np.nansum(stacked, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
