"""Learning curves: the return against env steps, a mean and an interval per variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlssl.analysis.results import Episodes, Trial
from rlssl.analysis.statistics import mean_half_width
from rlssl.analysis.table import CONFIDENCE, FINAL_EPISODES, group_by_variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

# Okabe and Ito's palette without its yellow: told apart by colour-blind readers and on paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_NUM_POINTS = 200


@dataclass(frozen=True)
class LearningCurve:
    """A variant's return against env steps.

    Args:
        env_steps: [num_points], rising, where every seed has finished episodes.
        mean: [num_points], over seeds of each seed's running mean return.
        low: [num_points], lower end of the interval over seeds; None with one seed.
        high: [num_points], upper end; None with one seed.
    """

    env_steps: FloatArray
    mean: FloatArray
    low: FloatArray | None
    high: FloatArray | None


def plot_learning_curves(
    trials: Sequence[Trial], path: str | Path, *, title: str | None = None
) -> Path:
    """Draws every variant's mean return over seeds, with its interval, as a PNG.

    The vertical axis spans the means and the seeds; an interval over two or three seeds can be many
    times wider, and is cut off there.

    Args:
        trials: Of one or several sweeps. A variant in which a seed never finished an episode has no
            curve, and the legend says so.
        path: The picture; its folder must exist.
        title: Above the axes; None takes the algorithm and environment of the first spec.

    Returns:
        The absolute path.

    Raises:
        ValueError: If there are no trials.
        ModuleNotFoundError: If matplotlib is missing, naming the extra to install.
    """
    if not trials:
        raise ValueError("trials must not be empty: there is nothing to draw.")
    try:
        from matplotlib.figure import Figure  # not pyplot: that would change the user's backend
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing curves needs matplotlib: pip install 'rlssl[report]'", name=error.name
        ) from error

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    _draw_variants(axes, trials)
    _finish(axes, title if title is not None else _default_title(trials[0]))
    target = Path(path).resolve()
    figure.savefig(target, format="png", dpi=150)  # Agg: needs no display
    return target


def learning_curve(
    trials: Sequence[Trial], *, window: int = FINAL_EPISODES, num_points: int = _NUM_POINTS
) -> LearningCurve | None:
    """Averages the seeds of one variant on a common grid of env steps.

    A seed's curve is the mean return of its last ``window`` finished episodes (of all, until there
    are as many), joined by straight lines. The grid covers the env steps where every seed has one,
    so that no part of the mean rests on fewer seeds than another.

    Args:
        trials: The seeds of one variant.
        window: Episodes of the running mean.
        num_points: Points of the grid.

    Returns:
        The curve; None if a seed has no finished episode, or no env steps are common to all.
    """
    if any(len(trial.episodes) == 0 for trial in trials):
        return None
    seeds = [running_mean_return(trial.episodes, window=window) for trial in trials]
    start = max(env_steps[0] for env_steps, _ in seeds)
    end = min(env_steps[-1] for env_steps, _ in seeds)
    if start > end:
        return None
    grid = np.linspace(start, end, num_points)
    returns = np.stack([np.interp(grid, *seed) for seed in seeds])  # [num_seeds, num_points]
    mean = returns.mean(axis=0)
    if len(seeds) == 1:
        return LearningCurve(grid, mean, None, None)
    half = mean_half_width(returns, confidence=CONFIDENCE)
    return LearningCurve(grid, mean, mean - half, mean + half)


def running_mean_return(
    episodes: Episodes, *, window: int = FINAL_EPISODES
) -> tuple[FloatArray, FloatArray]:
    """Mean return of the last ``window`` episodes, at the env steps at which an episode ended.

    Args:
        episodes: Of one trial, at least one. Rows of several env runners may be out of order.
        window: Episodes averaged; the first points average as many as there are. >= 1.

    Returns:
        [num_points] env steps, strictly rising, and [num_points] returns. Episodes that ended at
        the same env step make one point.

    Raises:
        ValueError: If ``window`` is less than 1.
    """
    if window < 1:
        raise ValueError(f"window must be >= 1; got {window}.")
    order = np.argsort(episodes.env_steps, kind="stable")
    env_steps, returns = episodes.env_steps[order], episodes.returns[order]
    sums = np.concatenate([[0.0], np.cumsum(returns)])
    ends = np.arange(1, len(returns) + 1)
    starts = np.maximum(ends - window, 0)
    means = (sums[ends] - sums[starts]) / (ends - starts)
    last_of_step = np.append(np.diff(env_steps) > 0, True)
    return env_steps[last_of_step], means[last_of_step]


def _draw_variants(axes: "Axes", trials: Sequence[Trial]) -> None:
    curves = []
    for index, (label, group) in enumerate(group_by_variant(trials).items()):
        colour = _COLOURS[index % len(_COLOURS)]
        curves.append((colour, _draw_lines(axes, label, group, colour)))
    limits = axes.get_ylim()  # of the lines alone
    for colour, curve in curves:
        if curve is not None and curve.low is not None and curve.high is not None:
            band = (curve.env_steps, curve.low, curve.high)
            axes.fill_between(*band, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(limits)


def _draw_lines(
    axes: "Axes", label: str, trials: Sequence[Trial], colour: str
) -> LearningCurve | None:
    """Draws the mean, and thinly each seed."""
    curve = learning_curve(trials)
    seeds = "1 seed" if len(trials) == 1 else f"{len(trials)} seeds"
    if curve is None:
        axes.plot([], [], color=colour, label=f"{label} ({seeds}, too few finished episodes)")
        return None
    axes.plot(curve.env_steps, curve.mean, color=colour, linewidth=2, label=f"{label} ({seeds})")
    if len(trials) > 1:
        for trial in trials:
            axes.plot(*running_mean_return(trial.episodes), color=colour, linewidth=0.7, alpha=0.5)
    return curve


def _finish(axes: "Axes", title: str) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_title(title, loc="left")
    axes.set_xlabel("env steps")
    axes.set_ylabel(f"return (mean of {FINAL_EPISODES} episodes)")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    legend = f"mean, {CONFIDENCE:.0%} t interval; thin: each seed"
    axes.legend(title=legend, frameon=False, loc="best")


def _default_title(trial: Trial) -> str:
    env = trial.spec.get("env")
    env_id = env.get("id", "") if isinstance(env, dict) else (env or "")
    return " on ".join(str(part) for part in (trial.spec.get("algorithm"), env_id) if part)
