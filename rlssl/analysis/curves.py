"""Learning curves: return over the steps of a run, with mean and interval of each variant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlssl.analysis.objective import OBJECTIVE, Objective
from rlssl.analysis.protocol import FINAL_EPISODES
from rlssl.analysis.results import Episodes, Trial
from rlssl.analysis.shares import range_of
from rlssl.analysis.statistics import MIN_SEEDS, mean_half_width, wilson_bounds
from rlssl.analysis.table import (
    CONFIDENCE,
    count_seeds,
    counted_trials,
    describe_experiment,
    group_by_variant,
    sweep_table,
)
from rlssl.clocks import ENV_STEPS, UPDATES, steps_of, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

# The palette of Okabe and Ito without yellow: color-blind readers and printers can distinguish it.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_NUM_POINTS = 200


@dataclass(frozen=True)
class LearningCurve:
    """A variant's return over env steps.

    Args:
        env_steps: [num_points], increasing; the range in which every seed has finished episodes.
        mean: [num_points], mean over seeds of each seed's running mean return.
        low: [num_points], lower end of the interval over seeds; None with one or two seeds.
        high: [num_points], upper end of the interval over seeds; None with one or two seeds.
    """

    env_steps: FloatArray
    mean: FloatArray
    low: FloatArray | None
    high: FloatArray | None


def plot_learning_curves(
    trials: Sequence[Trial], path: str | Path, *, title: str | None = None
) -> Path:
    """Saves a PNG with every variant's mean return over seeds and its interval.

    Args:
        trials: As in ``learning_curves_figure``.
        path: Path of the PNG; its folder must exist.
        title: As in ``learning_curves_figure``.

    Returns:
        The absolute path.

    Raises:
        ValueError: If there are no trials.
        ModuleNotFoundError: If matplotlib is missing; names the extra to install.

    Example:
        >>> from rlssl.analysis import read_sweep
        >>> trials = read_sweep("results/quickstart")  # doctest: +SKIP
        >>> plot_learning_curves(trials, "curves.png")  # doctest: +SKIP
        PosixPath('/home/me/curves.png')
    """
    figure = learning_curves_figure(trials, title=title)
    target = Path(path).resolve()
    figure.savefig(target, format="png", dpi=150)  # the backend Agg needs no display
    return target


def learning_curves_figure(trials: Sequence[Trial], *, title: str | None = None) -> "Figure":
    """Draws every variant's mean return over seeds and its interval.

    The vertical axis covers the means and the single seeds. An interval over few seeds can be many
    times wider; it is cut off at the axis limits. One or two seeds have no interval.

    Args:
        trials: Trials of one or several sweeps. A variant has no curve if one of its seeds never
            finished an episode; the legend says so.
        title: Title above the axes; None: algorithm, environment and number of seeds.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If there are no trials.
        ModuleNotFoundError: If matplotlib is missing; names the extra to install.
    """
    if not trials:
        raise ValueError("trials must not be empty: there is nothing to draw.")
    title = title if title is not None else describe_experiment(trials)
    return figure_of_groups(group_by_variant(trials), title=title)


def figure_of_groups(
    groups: Mapping[str, Sequence[Trial]], *, title: str, own_axes: bool = False
) -> "Figure":
    """Draws the mean return over seeds of each group, as `learning_curves_figure`.

    Args:
        groups: Label -> trials that differ in the seed.
        title: Title above the axes.
        own_axes: Whether each group has axes of its own, because their returns have other scales.

    Raises:
        ModuleNotFoundError: If matplotlib is missing; names the extra to install.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot, which would change the user's backend
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "learning curves need matplotlib: pip install 'rlssl[report]'", name=error.name
        ) from error

    panels = [dict([group]) for group in groups.items()] if own_axes else [groups]
    figure = Figure(figsize=(8, 5 * len(panels)), layout="constrained")
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, place)
        interval = _draw_variants(axes, panel)
        drawn = [trial for group in panel.values() for trial in group]
        _add_labels(axes, title if place == 1 else "", interval, drawn)
    return figure


def learning_curve(
    trials: Sequence[Trial],
    *,
    window: int = FINAL_EPISODES,
    num_points: int = _NUM_POINTS,
    are_shares: bool | None = None,
) -> LearningCurve | None:
    """Averages the seeds of one variant on a common grid of env steps.

    A seed's curve is the running mean return of ``running_mean_return``, with straight lines
    between its points. The grid covers the env steps where every seed has a curve, so that every
    point is a mean over all seeds.

    Args:
        trials: The trials of one variant, which differ in the seed.
        window: Number of episodes in the running mean.
        num_points: Number of points of the grid.
        are_shares: Whether the interval is Wilson's, for shares, instead of Student's t; None: see
            `rlssl.analysis.shares.range_of`.

    Returns:
        The curve; None if a seed has no finished episode, or the seeds share no env steps.

    Example:
        >>> zeros = np.zeros(2)
        >>> episodes = Episodes(np.array([0.0, 100.0]), np.array([0.0, 10.0]), zeros, zeros)
        >>> trial = Trial(Path("a"), {}, {}, 0, "", [], episodes)
        >>> learning_curve([trial], window=1, num_points=3).mean
        array([ 0.,  5., 10.])
    """
    found = [returns_of(trial, window=window) for trial in trials]
    seeds = [seed for seed in found if seed is not None]
    if len(seeds) < len(found):
        return None
    start = max(env_steps[0] for env_steps, _ in seeds)
    end = min(env_steps[-1] for env_steps, _ in seeds)
    if start > end:
        return None
    grid = np.linspace(start, end, num_points)
    returns = np.stack([np.interp(grid, *seed) for seed in seeds])
    known = range_of(trials)
    are_shares = known.are_shares if are_shares is None else are_shares
    return average_seeds(grid, returns, are_shares=are_shares, are_bounded=known.are_bounded)


def average_seeds(
    env_steps: FloatArray, values: FloatArray, *, are_shares: bool, are_bounded: bool = False
) -> LearningCurve:
    """The mean over seeds and its interval, at each of some env steps.

    Args:
        env_steps: [num_points], increasing.
        values: [num_seeds, num_points], finite.
        are_shares: Whether the interval is Wilson's, for shares, instead of Student's t.
        are_bounded: Whether Student's t interval is cut to [0, 1].

    Example:
        >>> average_seeds(np.array([5.0]), np.array([[1.0], [3.0]]), are_shares=False).mean
        array([2.])
    """
    mean = values.mean(axis=0)
    if len(values) < MIN_SEEDS:
        return LearningCurve(env_steps, mean, None, None)
    if are_shares:
        return LearningCurve(env_steps, mean, *wilson_bounds(values, confidence=CONFIDENCE))
    half = mean_half_width(values, confidence=CONFIDENCE)
    low, high = mean - half, mean + half
    if are_bounded:
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
    return LearningCurve(env_steps, mean, low, high)


def running_mean_return(
    episodes: Episodes, *, window: int = FINAL_EPISODES
) -> tuple[FloatArray, FloatArray]:
    """Mean return of the last ``window`` episodes, at each env step at which an episode ended.

    Args:
        episodes: Episodes of one trial, at least one. Several EnvRunners may write them out of
            order.
        window: Number of episodes to average, >= 1. The first points average all episodes so far.

    Returns:
        [num_points] env steps, strictly increasing, and [num_points] returns. Episodes that ended
        at the same env step give one point.

    Raises:
        ValueError: If ``window`` is less than 1.

    Example:
        The returns 1, (1 + 3) / 2 and (3 + 8) / 2:

        >>> zeros = np.zeros(3)
        >>> episodes = Episodes(np.array([10.0, 20, 30]), np.array([1.0, 3, 8]), zeros, zeros)
        >>> running_mean_return(episodes, window=2)
        (array([10., 20., 30.]), array([1. , 2. , 5.5]))
    """
    if window < 1:
        raise ValueError(f"window must be >= 1; got {window}.")
    order = np.argsort(episodes.env_steps, kind="stable")
    env_steps, returns = episodes.env_steps[order], episodes.returns[order]
    # No difference of sums over all episodes: one huge return would change all later means.
    first = returns[: window - 1]
    means = np.concatenate(
        [
            np.cumsum(first) / np.arange(1, len(first) + 1),
            np.lib.stride_tricks.sliding_window_view(returns, window).mean(axis=1)
            if len(returns) >= window
            else [],
        ]
    )
    last_of_step = np.append(np.diff(env_steps) > 0, True)
    return env_steps[last_of_step], means[last_of_step]


def returns_of(
    trial: Trial, *, window: int = FINAL_EPISODES
) -> tuple[FloatArray, FloatArray] | None:
    """The curve of a trial; None if it has none.

    Args:
        trial: Of a trial on a data set alone, which has no training episodes: its objective if the
            spec has one, else the returns of its evaluations.
        window: See `running_mean_return`.
    """
    if trial.clock == ENV_STEPS:
        return running_mean_return(trial.episodes, window=window) if len(trial.episodes) else None
    metric = metric_without_episodes(trial.spec)
    made_at = f"{metric.partition('/')[0]}/{UPDATES}"
    points = {
        float(row.get(made_at, steps_of(row))): float(row[metric])
        for row in trial.results
        if isinstance(row.get(metric), int | float) and math.isfinite(row[metric])
    }
    return (np.array([*points]), np.array([*points.values()])) if points else None


def metric_without_episodes(spec: Mapping[str, Any]) -> str:
    """What the curve of a trial without training episodes shows."""
    if spec.get(OBJECTIVE):
        return Objective.of(spec).metric
    return "evaluation/episode_return_mean"


def _draw_variants(axes: "Axes", groups: Mapping[str, Sequence[Trial]]) -> str:
    """Draws lines and bands; returns what the legend says about the bands."""
    curves, has_band = [], False
    are_shares = range_of([trial for group in groups.values() for trial in group]).are_shares
    for index, (label, group) in enumerate(groups.items()):
        color = _COLORS[index % len(_COLORS)]
        curves.append((color, _draw_lines(axes, label, group, color, are_shares)))
    limits = axes.get_ylim()  # the limits of the lines, before the bands are drawn
    for color, curve in curves:
        if curve is not None and curve.low is not None and curve.high is not None:
            band = (curve.env_steps, curve.low, curve.high)
            axes.fill_between(*band, color=color, alpha=0.15, linewidth=0)
            has_band = True
    axes.set_ylim(limits)
    kind = "Wilson" if are_shares else "t"
    return f"; band: {CONFIDENCE:.0%} {kind} interval" if has_band else ""


def _draw_lines(
    axes: "Axes", label: str, trials: Sequence[Trial], color: str, are_shares: bool
) -> LearningCurve | None:
    """Draws the mean as a thick line, and each seed as a thin line."""
    counted = counted_trials(trials)
    curve = learning_curve(counted, are_shares=are_shares)
    notes = _notes(trials)
    if curve is None:
        axes.plot([], [], color=color, label=f"{label} ({notes}, too few finished episodes)")
        return None
    axes.plot(curve.env_steps, curve.mean, color=color, linewidth=2, label=f"{label} ({notes})")
    if len(counted) > 1:
        for trial in counted:
            axes.plot(*(returns_of(trial) or ([], [])), color=color, linewidth=0.7, alpha=0.5)
    return curve


def _add_labels(axes: "Axes", title: str, interval: str, trials: Sequence[Trial]) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_title(title, loc="left")
    clocks = {trial.clock for trial in trials}
    axes.set_xlabel(unit_of(clocks))
    words = f"return (mean of {FINAL_EPISODES} episodes)"
    axes.set_ylabel(metric_without_episodes(trials[0].spec) if clocks == {UPDATES} else words)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.legend(title=f"mean over seeds{interval}; thin: each seed", frameon=False, loc="best")


def _notes(trials: Sequence[Trial]) -> str:
    """The number of seeds, and what else the table says about a variant."""
    (row,) = sweep_table(trials)
    seeds = [] if row.num_finished != row.num_expected else [count_seeds(row.num_seeds)]
    return ", ".join([*seeds, *row.notes])
