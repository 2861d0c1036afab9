"""The curves of every logged metric, with few enough points for a page."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlssl.analysis.curves import average_seeds, running_mean_return
from rlssl.analysis.report.collect import Variant
from rlssl.analysis.results import Trial
from rlssl.analysis.statistics import MIN_SEEDS
from rlssl.analysis.table import FINAL_EPISODES
from rlssl.clocks import steps_of

FloatArray = NDArray[np.float64]
Curve = tuple[FloatArray, FloatArray]
#: Mean, low and high over seeds; without an interval, low and high are None.
Band = tuple[FloatArray, FloatArray | None, FloatArray | None]

#: The metric of the page that is computed from the episodes.
RETURN = "return"

#: The most numbers of all curves together: about 6 characters each.
MAX_NUMBERS = 450_000
#: Points of a curve: fewest and most; and so many at most where there are fewer results.
MIN_POINTS, MAX_POINTS, FEW_RESULTS = 16, 120, 60
#: The most numbers of the curves of single seeds.
MAX_SEED_NUMBERS = 150_000

#: Families of metrics, in the order of the picker: title, and a pattern of the keys.
FAMILIES = (
    ("returns", r"return$|episode_return_mean|intrinsic_return_mean|success_rate|objective"),
    ("evaluation", r"evaluation/|holdout/"),
    ("representations", r"diagnostics/|aux/latents/"),
    ("auxiliary losses", r"aux/"),
    ("losses and learner", r"learners/(?!__all_modules__)"),
    ("throughput", r".*throughput|time_this_iter_s$"),
    ("faults", r"faults/|fault_tolerance/"),
    ("environment runners", r"env_runners/"),
    ("times and machine", r""),
)
# Not metrics of training: clocks, timers, names, counters that only repeat the env steps.
_NO_METRICS = re.compile(
    r"(done|date|timestamp|pid|should_checkpoint|training_iteration|time_total_s|env_steps"
    r"|agent_steps|(env_steps|updates)_at_start|(holdout|diagnostics|evaluation)/updates|time_since_restore|iterations_since_restore"
    r"|num_training_step_calls_per_iteration|objective/.*)$"
    r"|config/|timers/|.*(timer|/timers/.*)$|.*(num_\w*steps\w*_(sampled|trained)\w*|weights_seq_no)(/[\w]+)?$"
)
# The learner logs ``aux/...`` of the losses under the name of its module, too.
_OF_THE_LEARNER = re.compile(r"^learners/[^/]+/(?=aux/)")
# Values of the last evaluation are repeated until the next one.
_OF_EVALUATION = ("evaluation/", "diagnostics/", "holdout/")


@dataclass(frozen=True)
class Metric:
    """A metric that the page can show.

    Args:
        key: As it is logged; ``return`` for the return of the episodes.
        words: What the axis says.
        family: Its heading in the picker.
    """

    key: str
    words: str
    family: str


@dataclass(frozen=True)
class Curves:
    """The curves of a report.

    Args:
        metrics: In the order of the picker.
        env_steps: Index of a variant -> [num_points], steps of its points, on its clock.
        wall_time: Index of a variant -> [num_points], seconds; NaN where no result says it.
        bands: Key -> index of a variant -> mean, low and high over seeds, each [num_points] with
            NaN where a seed has no value. Without an interval, low and high are None.
        seeds: Key -> index of a variant -> [num_seeds, num_points]; empty if there would be too
            many numbers.
        left_out: Keys of metrics that are not on the page, because there are too many.
    """

    metrics: Sequence[Metric]
    env_steps: dict[int, FloatArray]
    wall_time: dict[int, FloatArray]
    bands: dict[str, dict[int, Band]]
    seeds: dict[str, dict[int, FloatArray]]
    left_out: Sequence[str] = ()

    @property
    def longest(self) -> float:
        """The longest wall time, in seconds; 0 if no result has one."""
        times = [each[np.isfinite(each)] for each in self.wall_time.values()]
        return max((float(each.max()) for each in times if each.size), default=0.0)


def curves_of(variants: Sequence[Variant]) -> Curves:
    """Averages every metric of every variant over its seeds, on a grid of env steps.

    A variant has one grid for all its metrics: from the first to the last env steps that all its
    counted seeds have reported. Between results, values lie on straight lines.

    Args:
        variants: The variants of a report.
    """
    started = [one for one in variants if one.trials]
    logged = {id(trial): _logged(trial) for one in started for trial in one.counted}
    keys = _keys(logged.values())
    have_bands = any(len(one.counted) >= MIN_SEEDS for one in started)
    numbers = len(started) * (3 if have_bands else 1)
    most = max(MAX_NUMBERS // (MIN_POINTS * max(numbers, 1)), 1)
    metrics, left_out = keys[:most], [one.key for one in keys[most:]]
    num_points = MAX_NUMBERS // max(numbers * len(metrics), 1)
    longest = max((len(trial.results) for one in started for trial in one.counted), default=0)
    num_points = min(max(num_points, MIN_POINTS), MAX_POINTS, max(longest, FEW_RESULTS))
    num_seeds = sum(len(one.counted) for one in started)
    with_seeds = num_seeds * num_points * len(metrics) <= MAX_SEED_NUMBERS
    found = Curves(metrics, {}, {}, {one.key: {} for one in metrics}, {}, left_out)
    for one in started:
        grid = _grid(one.counted, num_points)
        if grid is None:
            continue
        found.env_steps[one.index] = grid
        found.wall_time[one.index] = np.mean(
            [_on_grid(_clock(trial), grid) for trial in one.counted], axis=0
        )
        for metric in metrics:
            values = _values(one, metric.key, logged, grid)
            if values is None:
                continue
            found.bands[metric.key][one.index] = _band(one, metric.key, values, grid)
            if with_seeds and len(values) > 1:
                found.seeds.setdefault(metric.key, {})[one.index] = values
    return found


def _values(
    variant: Variant, key: str, logged: Mapping[int, Mapping[str, Curve]], grid: FloatArray
) -> FloatArray | None:
    """A metric of every counted seed, [num_seeds, num_points]; None if a seed never logged it."""
    curves = [logged[id(trial)].get(key) for trial in variant.counted]
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves):
        return None
    values = np.stack([_on_grid(curve, grid) for curve in known])
    return values if np.isfinite(values).all(axis=0).any() else None


def _band(variant: Variant, key: str, values: FloatArray, grid: FloatArray) -> Band:
    """Mean and interval over the seeds, where all seeds have a value."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
    is_return = key == RETURN
    returns = variant.row.returns
    shares = returns.are_shares if is_return else _are_shares(key, values[:, known])
    bounded = is_return and returns.are_bounded
    curve = average_seeds(grid[known], values[:, known], are_shares=shares, are_bounded=bounded)
    mean = _spread(curve.mean, known)
    if curve.low is None or curve.high is None:
        return mean, None, None
    return mean, _spread(curve.low, known), _spread(curve.high, known)


def _spread(part: FloatArray, known: NDArray[np.bool_]) -> FloatArray:
    """Values at the known points, NaN at the others."""
    full = np.full(len(known), np.nan)
    full[known] = part
    return full


def _are_shares(key: str, values: FloatArray) -> bool:
    return key.endswith("success_rate") and values.min() >= 0.0 and values.max() <= 1.0


def _grid(trials: Sequence[Trial], num_points: int) -> FloatArray | None:
    """Env steps that all trials have reported; None if there are none."""
    ranges = [_range(trial) for trial in trials]
    known = [one for one in ranges if one is not None]
    if len(known) < len(trials):
        return None
    start, end = max(one[0] for one in known), min(one[1] for one in known)
    return np.linspace(start, end, num_points) if start <= end else None


def _range(trial: Trial) -> tuple[float, float] | None:
    steps = [steps_of(row) for row in trial.results]
    if len(trial.episodes):
        steps = [*steps, *trial.episodes.env_steps[[0, -1]]]
    return (float(min(steps)), float(max(steps))) if steps else None


def _on_grid(curve: Curve, grid: FloatArray) -> FloatArray:
    if not len(curve[0]):
        return np.full(len(grid), np.nan)
    return np.interp(grid, *curve, left=np.nan, right=np.nan)


def _clock(trial: Trial) -> Curve:
    rows = [row for row in trial.results if math.isfinite(row.get("time_total_s", math.nan))]
    steps = np.array([0.0, *(steps_of(row) for row in rows)])
    return steps, np.array([0.0, *(row["time_total_s"] for row in rows)])


def _logged(trial: Trial) -> dict[str, Curve]:
    """Every metric of a trial: env steps and values, both [num_results], finite."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in trial.results:
        own = steps_of(row)
        for key, value in row.items():
            if key == trial.clock:
                continue
            if type(value) not in (float, int) or not math.isfinite(value) or _is_no_metric(key):
                continue  # results come from JSON: there are no other numbers
            steps, values = found.setdefault(key, ([], []))
            at: float = own
            if key.startswith(_OF_EVALUATION):
                at = row.get(f"{key.partition('/')[0]}/{trial.clock}", own)
            if not steps or at > steps[-1]:
                steps.append(at)
                values.append(value)
    curves = {key: (np.array(steps), np.array(values)) for key, (steps, values) in found.items()}
    if len(trial.episodes):
        ends, returns = running_mean_return(trial.episodes)
        # The results end later than the last episode: its mean is still the latest one.
        last = trial.steps if trial.results else ends[-1]
        curves[RETURN] = (np.append(ends, max(last, ends[-1])), np.append(returns, returns[-1]))
    return curves


@cache
def _is_no_metric(key: str) -> bool:
    return _NO_METRICS.match(key) is not None


def _keys(trials: Any) -> list[Metric]:
    """The metrics that change within or between trials, by family, the most important first."""
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for curves in trials:
        for key, (_, values) in curves.items():
            counts[key] += 1
            lows[key] = min(lows.get(key, math.inf), float(values.min()))
            highs[key] = max(highs.get(key, -math.inf), float(values.max()))
    found = [
        _metric(key)
        for key in counts
        if key == RETURN or (lows[key] < highs[key] and not _is_copy(key, counts))
    ]
    order = [title for title, _ in FAMILIES]
    return sorted(found, key=lambda one: (order.index(one.family), one.key != RETURN, one.key))


def _is_copy(key: str, keys: Collection[str]) -> bool:
    """Whether a metric is logged a second time, as the losses' of the learner are."""
    short = _OF_THE_LEARNER.sub("", key)
    return short != key and short in keys


def _metric(key: str) -> Metric:
    family = next(title for title, pattern in FAMILIES if re.match(pattern, key))
    words = f"return (mean of {FINAL_EPISODES} training episodes)" if key == RETURN else key
    return Metric(key, words, family)


def rounded(values: FloatArray | None, digits: int = 4) -> list[float | None] | None:
    """Numbers for JSON: some significant digits; None for NaN.

    Example:
        >>> rounded(np.array([1234.56, 0.000123456, np.nan, 2.0]))
        [1235, 0.0001235, None, 2]
    """
    return None if values is None else list(_rounded(values, digits))


def _rounded(values: FloatArray, digits: int) -> Iterator[float | None]:
    for value in values.tolist():
        if math.isfinite(value):
            short = float(f"{value:.{digits}g}")
            yield int(short) if short.is_integer() else short
        else:
            yield None
