"""Two sides compared: difference, probability of improvement, settings that differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlssl.analysis.comparison.sides import Side, score_of
from rlssl.analysis.objective import Objective
from rlssl.analysis.protocol import differences
from rlssl.analysis.settings_difference import SettingRow, compare_settings
from rlssl.analysis.shares import CONFIDENCE, ScoreRange, difference_of_scores
from rlssl.analysis.statistics import (
    MIN_SEEDS,
    Caution,
    Difference,
    Interval,
    probability_of_improvement,
    rank_interval,
)
from rlssl.analysis.table import format_number
from rlssl.clocks import WORDS, unit_of

#: Env steps that differ by a smaller share than this are the same budget: a run ends at the first
#: result after its budget, so it has some steps more.
_SAME_BUDGET = 0.05


@dataclass(frozen=True)
class Comparison:
    """What is to be said about two sides.

    Args:
        first: The side A.
        second: The side B.
        objective: The score; None: the final return.
        unlike: In what the protocols are unlike; then nothing is computed from both sides.
        difference: Mean of A minus mean of B; None if the protocols are unlike.
        improvement: Probability that a run of A is better than a run of B; None: as above, or a
            side has no score.
        improvement_interval: Its interval; None with fewer than three seeds on a side.
        at_common_steps: The fewest env steps of both sides, and the difference there; None if both
            have the same budget, or the score is not the final return.
        settings: Every setting of both sides.
        notes: What else a reader must know.
        cautions: Why not to trust the numbers, as data.
    """

    first: Side
    second: Side
    objective: Objective | None
    unlike: Sequence[str]
    difference: Difference | None
    improvement: float | None
    improvement_interval: Interval | None
    at_common_steps: tuple[int, Difference] | None
    settings: Sequence[SettingRow]
    notes: Sequence[str]
    cautions: Sequence[Caution]

    @property
    def verdict(self) -> str:
        """Which side is better, by how much and how sure, in one sentence or two."""
        is_empty = self.difference is None or math.isnan(self.difference.value)
        if is_empty or have_one_budget(self.first, self.second):
            return self._difference_in_words
        unit = unit_of(side.protocol.clock for side in (self.first, self.second))
        steps = " and ".join(f"{side.env_steps[0]:,}" for side in (self.first, self.second))
        return f"{self._difference_in_words} But the budgets differ: {steps} {unit}."

    @property
    def _difference_in_words(self) -> str:
        if self.unlike or self.difference is None:
            return (
                f"The protocols are unlike, so no difference is computed: {'; '.join(self.unlike)}."
            )
        found = self.difference
        if math.isnan(found.value):
            empty = [name for name, side in self._named.items() if not side.scores]
            return f"There is nothing to compare: {' and '.join(empty)} without a score."
        size = format_number(abs(found.value))
        sign = 1.0 if self.objective is None else self.objective.sign
        better, worse = list(self._named)[:: 1 if sign * found.value >= 0 else -1]
        if found.interval is None:
            return (
                f"{better} scored better by {size} than {worse}. There is no interval, so this may "
                "be chance."
                if found.value
                else "Both sides have the same score. There is no interval."
            )
        ends = (found.interval.low, found.interval.high)
        how = f"{CONFIDENCE:.0%} interval of A - B, {found.method}"
        interval = f"[{', '.join(map(format_number, ends))}]"
        if ends[0] <= 0.0 <= ends[1]:
            return (
                f"The difference is not clear: A - B = {format_number(found.value)} {interval} "
                f"contains 0 ({how})."
            )
        return (
            f"{better} is better by {size} than {worse}: A - B = "
            f"{format_number(found.value)} {interval} ({how})."
        )

    @property
    def _named(self) -> dict[str, Side]:
        """A name in words -> the side. Both sides may have one name."""
        return {f"A ({self.first.name})": self.first, f"B ({self.second.name})": self.second}


def compare(first: Side, second: Side, objective: Objective | None = None) -> Comparison:
    """Compares two sides. Nothing is computed from both if their protocols are unlike.

    The interval is that of this one comparison. It is not corrected for other comparisons, because
    it is not known how many there were. A note says so if a side is a point of a sweep.

    Args:
        first: The side A.
        second: The side B.
        objective: The score of both sides, as in `read_side`.
    """
    unlike = differences(first.protocol, second.protocol)
    scores = [list(side.scores.values()) for side in (first, second)]
    known = first.score_range.joined(second.score_range)
    found = None if unlike else _difference_of(scores, known)
    improvement, interval = None, None
    if not unlike and all(scores):
        sign = 1.0 if objective is None else objective.sign
        ours, theirs = ([sign * score for score in side] for side in scores)
        improvement = probability_of_improvement(ours, theirs)
        if min(map(len, scores)) >= MIN_SEEDS:
            interval = rank_interval(ours, theirs, confidence=CONFIDENCE)
    common = None if unlike else _at_common_steps(first, second, objective, known)
    return Comparison(
        first=first,
        second=second,
        objective=objective,
        unlike=unlike,
        difference=found,
        improvement=improvement,
        improvement_interval=interval,
        at_common_steps=common,
        settings=compare_settings([first.trials, second.trials]),
        notes=_notes(first, second),
        cautions=[*(found.cautions if found else ()), *_cautions(first, second)],
    )


def have_one_budget(first: Side, second: Side) -> bool:
    """Whether both sides trained for about the same env steps."""
    fewest, most = sorted([first.env_steps[0], second.env_steps[0]])
    return most <= fewest * (1.0 + _SAME_BUDGET)


def _difference_of(scores: Sequence[Sequence[float]], known: ScoreRange) -> Difference:
    ours, theirs = scores
    return difference_of_scores(ours, theirs, known, ("A", "B"))


def _at_common_steps(
    first: Side, second: Side, objective: Objective | None, known: ScoreRange
) -> tuple[int, Difference] | None:
    if objective is not None or have_one_budget(first, second):
        return None
    until = min(first.env_steps[0], second.env_steps[0])
    scores = []
    for side in (first, second):
        each = [score_of(trial, None, until=until) for trial in side.counted]
        scores.append([score for score in each if score is not None])
    return until, _difference_of(scores, known)


def _cautions(first: Side, second: Side) -> list[Caution]:
    return [
        Caution(one.code, f"{letter}: {one.words}")
        for letter, side in zip("AB", (first, second), strict=True)
        for one in side.cautions
    ]


def _notes(first: Side, second: Side) -> list[str]:
    notes = []
    if {trial.path for trial in first.trials} == {trial.path for trial in second.trials}:
        notes.append("Both sides are the same trials.")
    elif {trial.path for trial in first.trials} & {trial.path for trial in second.trials}:
        notes.append("Some trials are on both sides.")
    for letter, side in zip("AB", (first, second), strict=True):
        (fewest, most), unit = side.env_steps, WORDS[side.protocol.clock]
        if most > fewest * (1.0 + _SAME_BUDGET):
            notes.append(f"{letter}: its seeds end between {fewest:,} and {most:,} {unit}.")
        notes += [f"{letter}: {note}" for note in side.notes]
    most_points = max(first.num_points, second.num_points)
    if most_points > 2:
        notes.append(
            "This is one comparison. Its interval is too narrow for points that were chosen by "
            f"their scores, here among {most_points}: rlssl report corrects for all pairs."
        )
    repeats = [side.protocol.env_steps_per_agent_step for side in (first, second)]
    if repeats[0] != repeats[1]:
        words = " and ".join(str(repeat or "unknown") for repeat in repeats)
        notes.append(f"An agent step is {words} env steps: budgets are compared in env steps.")
    return notes
