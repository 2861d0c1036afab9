"""One side of a comparison: the seeds of one variant, their scores, and what is missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlssl.analysis.confirmation import trial_score
from rlssl.analysis.faults import seeds_without_result
from rlssl.analysis.objective import OBJECTIVE, Objective
from rlssl.analysis.protocol import (
    FINAL_EPISODES,
    Protocol,
    last_episodes,
    protocol_of,
    seeds_with_few_episodes,
)
from rlssl.analysis.results import Run, Trial
from rlssl.analysis.shares import ScoreRange, range_of
from rlssl.analysis.statistics import Caution
from rlssl.analysis.table import (
    Estimate,
    count_seeds,
    counted_trials,
    estimate_of_scores,
    group_by_variant,
)
from rlssl.clocks import WORDS
from rlssl.errors import SpecError, suggest

#: More points of a run are not listed in a message.
_MOST_POINTS = 8


@dataclass(frozen=True)
class Cost:
    """What the training of a side took.

    Args:
        seconds: Mean over seeds of the time of training; None: the results do not say.
        env_steps_per_s: Mean over seeds of env steps per second; None: as for ``seconds``.
    """

    seconds: float | None
    env_steps_per_s: float | None


@dataclass(frozen=True)
class Side:
    """The seeds of one variant.

    Args:
        name: How the side is called in tables.
        trials: All trials, one for each seed.
        counted: The trials whose scores count: the complete ones; without any, all of them.
        scores: Seed -> score, of the counted trials that have one.
        protocol: What a score means.
        env_steps: The fewest and the most env steps of the counted trials.
        cost: What training took.
        notes: What a reader must know about the seeds: failed, missing, repeated, without score.
        cautions: Why not to trust the scores, as data.
        score_range: The range of the scores in the whole run.
        num_points: The number of points in its run.
    """

    name: str
    trials: Sequence[Trial]
    counted: Sequence[Trial]
    scores: Mapping[int, float]
    protocol: Protocol
    env_steps: tuple[int, int]
    cost: Cost
    notes: Sequence[str]
    cautions: Sequence[Caution]
    score_range: ScoreRange
    num_points: int = 1

    @property
    def estimate(self) -> Estimate:
        """Mean over seeds and its interval, as in the table of the run."""
        return estimate_of_scores(list(self.scores.values()), self.score_range)


def read_side(
    run: Run, point: str | None = None, *, name: str = "", objective: Objective | None = None
) -> Side:
    """The seeds of a run, or of one of its points.

    Args:
        run: The run.
        point: Label or index of a point; None: the run has one point only.
        name: How the side is called; "": by the name of the run, and its point.
        objective: The score of a trial; None: the mean over its last episodes, as in the table.

    Raises:
        SpecError: If there is no such point, or the run has several and none is named; lists them.
            If its seeds were measured in unlike ways.
    """
    label, trials = _trials_of(run, point)
    kept, repeated = _one_for_each_seed(trials)
    counted = counted_trials(kept)
    scored = {trial.seed: score_of(trial, objective) for trial in counted}
    notes = [*repeated, *_incomplete(kept, counted), *_without_score(scored, objective)]
    cautions = few_episodes_cautions(seeds_with_few_episodes(counted) if objective is None else [])
    if len(counted) < len(kept) + len(seeds_without_result(kept)):
        words = "seeds that failed or are missing do not count; the mean may be too good."
        cautions.append(Caution("missing_seeds", words))
    steps = [trial.steps for trial in counted]
    return Side(
        name=name or (f"{run.path.name}:{label}" if label else run.path.name),
        trials=kept,
        counted=counted,
        scores={seed: score for seed, score in scored.items() if score is not None},
        protocol=_protocol_of_side(run, counted, objective),
        env_steps=(min(steps), max(steps)),
        cost=_cost(counted),
        notes=notes,
        cautions=cautions,
        score_range=range_of(run.trials, objective),
        num_points=len(group_by_variant(run.trials)),
    )


def few_episodes_cautions(seeds: Sequence[int]) -> list[Caution]:
    """What is to be said about seeds whose final return is of fewer episodes than its name says.

    Example:
        >>> few_episodes_cautions([0, 2])[0].words
        'seeds 0, 2 finished fewer than 20 episodes: the mean of all of them counts.'
    """
    if not seeds:
        return []
    seed, them = ("seeds", "all of them") if len(seeds) > 1 else ("seed", "all of its episodes")
    words = f"{seed} {_listed(seeds)} finished fewer than {FINAL_EPISODES} episodes"
    return [Caution("few_episodes", f"{words}: the mean of {them} counts.")]


def score_of(trial: Trial, objective: Objective | None, *, until: float = math.inf) -> float | None:
    """The score of a trial; None if it has none.

    Args:
        trial: The trial.
        objective: What is computed from its results; None: the mean over its last episodes.
        until: Only episodes that ended up to this env step count; not for an objective.

    Example:
        >>> from pathlib import Path
        >>> from rlssl.analysis.results import Episodes
        >>> steps, returns = np.array([10.0, 20.0, 30.0]), np.array([1.0, 3.0, 9.0])
        >>> trial = Trial(Path("a"), {}, {}, 0, "", [], Episodes(steps, returns, steps, steps))
        >>> score_of(trial, None, until=20)
        2.0
    """
    if objective is not None:
        return trial_score(trial, objective)
    returns = last_episodes(trial, until)[0]
    return float(returns.mean()) if returns.size else None


def objective_of(metric: str | None, mode: str | None, trials: Sequence[Trial]) -> Objective | None:
    """What ``--metric`` means for a run: by the rules of its own objective, if it is the same.

    Args:
        metric: A key of the results, or "area"; None: the final return.
        mode: "max" or "min"; None: as the run's own objective has it, else "max".
        trials: The trials of the run.

    Example:
        >>> objective_of("aux/icm/loss", "min", []).mode
        'min'
    """
    if metric is None:
        return None
    own = Objective.of(trials[0].spec) if trials and trials[0].spec.get(OBJECTIVE) else None
    known = own if own is not None and own.metric == metric else Objective(metric)
    return known if mode is None else Objective(metric, mode, known.last)


def _protocol_of_side(run: Run, trials: Sequence[Trial], objective: Objective | None) -> Protocol:
    try:
        return protocol_of(trials, objective)
    except ValueError as error:
        raise SpecError(f"{run.path.name} has no score, because {error}") from error


def _trials_of(run: Run, point: str | None) -> tuple[str, Sequence[Trial]]:
    """The label of a point, and its trials."""
    groups = group_by_variant(run.trials)
    if point is None:
        if len(groups) > 1:
            labels = [f"{run.path.name}:{label}" for label in list(groups)[:_MOST_POINTS]]
            more = "" if len(groups) <= _MOST_POINTS else ", ..."
            raise SpecError(
                f"{run.path.name} has {len(groups)} points, and points are never averaged; name "
                f"one, by its label or its index: {', '.join(map(repr, labels))}{more}."
            )
        return "", run.trials
    if point in groups:
        return point, groups[point]
    for known in run.points:
        if point in (known.label, str(known.index)):
            for label, trials in groups.items():
                if trials[0].point == known.values:
                    return label, trials
            raise SpecError(f"point {point!r} of {run.path.name} has no trial with a result yet.")
    if not run.points and point.isdecimal() and int(point) < len(groups):
        return list(groups.items())[int(point)]
    raise SpecError(f"{run.path.name} has no point {point!r}{suggest(point, groups)}")


def _one_for_each_seed(trials: Sequence[Trial]) -> tuple[list[Trial], list[str]]:
    """The longest trial of each seed, and what was left out."""
    best: dict[int, Trial] = {}
    notes = []
    for trial in trials:
        known = best.setdefault(trial.seed, trial)
        if known is not trial:
            ordered = sorted([known, trial], key=lambda one: (one.is_complete, one.steps))
            best[trial.seed] = ordered[1]
            notes.append(
                f"seed {trial.seed} is there more than once, and equal seeds are not independent: "
                f"{ordered[0].path.name} is left out."
            )
    return list(best.values()), notes


def _incomplete(trials: Sequence[Trial], counted: Sequence[Trial]) -> list[str]:
    notes = []
    for trial in trials:
        if not trial.is_complete:
            use = "counted" if trial in counted else "not counted"
            words = (
                f"seed {trial.seed} {trial.status} at {trial.steps:,} {WORDS[trial.clock]}: {use}."
            )
            notes.append(words.replace("unfinished", "is unfinished"))
        elif trial.stopped_at is not None:
            notes.append(f"the scheduler stopped seed {trial.seed} at {trial.stopped_at:,}.")
    if not any(trial.is_complete for trial in trials):
        notes.append("no seed has finished, so that unfinished ones are counted.")
    missing = seeds_without_result(trials)
    if missing:
        notes.append(f"seed {_listed(missing)} has no result.")
    return notes


def _without_score(scored: Mapping[int, float | None], objective: Objective | None) -> list[str]:
    missing = [seed for seed, score in scored.items() if score is None]
    what = "no finished episode" if objective is None else f"no value of {objective.metric}"
    if not missing:
        return []
    seed, has = ("seed", "has") if len(missing) == 1 else ("seeds", "have")
    words = f"{seed} {_listed(missing)} {has} {what}"
    return [f"{count_seeds(len(missing))} without a score: {words}."]


def _cost(trials: Sequence[Trial]) -> Cost:
    """From the seconds that Tune adds up; also over restarts."""
    known = [
        (trial.steps, float(trial.results[-1]["time_total_s"]))
        for trial in trials
        if trial.results and trial.results[-1].get("time_total_s")
    ]
    if not known:
        return Cost(None, None)
    seconds = float(np.mean([taken for _, taken in known]))
    return Cost(seconds, float(np.mean([steps / taken for steps, taken in known])))


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
