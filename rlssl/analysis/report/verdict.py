"""The first sentence of a report: which variant is best, by how much, and how sure that is."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlssl.analysis.comparison.sides import few_episodes_cautions
from rlssl.analysis.faults import seeds_without_result
from rlssl.analysis.report.collect import Group, Report, Variant
from rlssl.analysis.report.tasks import over_tasks
from rlssl.analysis.shares import CONFIDENCE, ScoreRange, difference_of_scores, range_of
from rlssl.analysis.statistics import (
    MIN_SEEDS,
    Difference,
    Interval,
    cautions_of,
    confidence_of_each_pair,
    probability_of_improvement,
    rank_interval,
)
from rlssl.analysis.table import format_number
from rlssl.clocks import unit_of

#: The best of so many variants looks better than it is, because it was selected.
MANY_VARIANTS = 6
#: Env steps of scores that are further apart than this share are named.
_UNEQUAL_STEPS = 0.05


#: Status of trials -> its words for one seed, and for several.
_STATUS_WORDS = {
    "failed": ("has failed and is", "have failed and are"),
    "unfinished": ("is unfinished and", "are unfinished and"),
}


@dataclass(frozen=True)
class Lead:
    """By how much one variant is better than another one.

    Args:
        difference: Of the means, in the unit of the scores; positive is better.
        probability: That a seed of the one beats a seed of the other; a tie counts one half.
        bounds: The interval of the probability; None with fewer than three seeds.

    Example:
        >>> print(Lead(Difference(2.0, Interval(1.0, 3.0), "Welch t"), 0.9, Interval(0.6, 0.98)))
        2.00 [1.00, 3.00]
    """

    difference: Difference
    probability: float
    bounds: Interval | None

    def __str__(self) -> str:
        """``value [low, high]``."""
        value = format_number(self.difference.value)
        if self.difference.interval is None:
            return f"{value} [n/a]"
        low, high = map(format_number, self.difference.interval)
        return f"{value} [{low}, {high}]"

    @property
    def chance(self) -> str:
        """The probability in percent, with its interval; "n/a" with fewer than three seeds."""
        if self.bounds is None:
            return "n/a"
        return f"{self.probability:.0%} [{self.bounds.low:.0%}, {self.bounds.high:.0%}]"

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return excludes_0(self.difference)


@dataclass(frozen=True)
class Comparisons:
    """The first variant of a group against each other one, all together.

    Each interval on the page is that of one comparison, as papers on reinforcement learning give
    it. With many comparisons, some intervals exclude 0 by chance. So this says which differences
    stay clear if every pair of variants counts; see `confidence_of_each_pair`.

    Args:
        num_variants: Variants with a score, at least three.
        confidence: Of each pair, so that all pairs hold together with the confidence of the page.
        clear: The variants whose difference from the first one is clear without a correction.
        clear_together: Those whose difference is still clear with the correction.
    """

    num_variants: int
    confidence: float
    clear: Sequence[Variant]
    clear_together: Sequence[Variant]

    @property
    def num_pairs(self) -> int:
        """The number of pairs, any of which could have become a comparison with the first."""
        return math.comb(self.num_variants, 2)

    @property
    def words(self) -> str:
        """How many comparisons there are, and what is clear with and without the correction."""
        named = f": {listed(self.clear_together)}" if self.clear_together else ""
        return (
            f"Clear differences among the {self.num_variants - 1} comparisons with the first "
            f"variant: {len(self.clear)} if each is judged alone; {len(self.clear_together)} if "
            f"corrected for all {self.num_pairs} pairs of variants (Bonferroni){named}."
        )


@dataclass(frozen=True)
class Verdict:
    """What a group of variants shows.

    Args:
        group: The variants.
        headline: Which variant is best, by how much; or that no difference can be told.
        certainty: How sure that is.
        warnings: What a reader must know before using the numbers.
        lead: Of the best variant over the next one; None with fewer than two scores.
        comparisons: Of the best variant with all others; None with fewer than three scores.
    """

    group: Group
    headline: str
    certainty: str
    warnings: Sequence[str]
    lead: Lead | None = None
    comparisons: Comparisons | None = None


def verdict_of(group: Group) -> Verdict:
    """Compares the variants of a group.

    Args:
        group: Variants of one protocol.
    """
    scored = group.scored
    warnings = list(_warnings(group))
    measure = _measure(group)
    if not scored:
        return Verdict(group, "No variant has a score.", _why_no_score(group), warnings)
    best = scored[0]
    if len(scored) == 1:
        headline = f"{best.label}: {measure} {best.estimate}."
        return Verdict(group, headline, "There is no other variant to compare it with.", warnings)
    second = scored[1]
    found = lead_of(best, second)
    if found.difference.value == 0.0:
        headline = f"{best.label} and {second.label} have the same {measure}: {best.estimate}."
    elif not found.is_clear:
        headline = (
            f"No difference can be told between {best.label} and {second.label}: {measure} "
            f"{best.estimate} and {second.estimate}, a difference of {found}."
        )
    else:
        headline = (
            f"{best.label} is best: {measure} {best.estimate}. It is ahead of {second.label} "
            f"({second.estimate}) by {found}."
        )
    several = comparisons_of(group)
    certainty = _certainty(found, best, second)
    if several is not None:
        certainty = f"{certainty} {several.words}"
    return Verdict(group, headline, certainty, warnings, found, several)


def comparisons_of(group: Group) -> Comparisons | None:
    """Compares the first variant of a group with all others.

    Args:
        group: Variants of one protocol.

    Returns:
        The comparisons; None with fewer than three scores, because one comparison needs no
        correction, or if no variant has enough seeds for an interval.
    """
    scored = group.scored
    if len(scored) < 3:
        return None
    confidence = confidence_of_each_pair(len(scored), confidence=CONFIDENCE)
    alone = [_difference(scored[0], one) for one in scored[1:]]
    if all(found.interval is None for found in alone):
        return None
    # A wider interval is needed only where the one of a single comparison excludes 0.
    clear = [one for one, found in zip(scored[1:], alone, strict=True) if excludes_0(found)]
    together = [one for one in clear if excludes_0(_difference(scored[0], one, confidence))]
    return Comparisons(len(scored), confidence, clear, together)


def lead_of(one: Variant, other: Variant) -> Lead:
    """By how much one variant is better than another one of its group.

    Args:
        one: A variant with a score.
        other: Another one.
    """
    found = _difference(one, other)
    ours, theirs = (side.scores for side in _higher_first(one, other))
    probability = probability_of_improvement(ours, theirs)
    if min(len(ours), len(theirs)) < MIN_SEEDS:
        return Lead(found, probability, None)
    return Lead(found, probability, rank_interval(ours, theirs, confidence=CONFIDENCE))


def _difference(one: Variant, other: Variant, confidence: float = CONFIDENCE) -> Difference:
    sides = _higher_first(one, other)
    ours, theirs = (side.scores for side in sides)
    names = (sides[0].label, sides[1].label)
    return difference_of_scores(ours, theirs, _range(one, other), names, confidence=confidence)


def _higher_first(one: Variant, other: Variant) -> tuple[Variant, Variant]:
    """The two variants so that positive differences of scores mean that ``one`` is better."""
    return (one, other) if one.sign > 0 else (other, one)


def excludes_0(found: Difference) -> bool:
    """Whether a difference has an interval, and 0 is outside."""
    return found.interval is not None and (found.interval.low > 0 or found.interval.high < 0)


def _range(*variants: Variant) -> ScoreRange:
    """The range of the scores of variants, as in the table."""
    if variants[0].objective is not None:
        return range_of([], variants[0].objective)
    return functools.reduce(ScoreRange.joined, [one.row.returns for one in variants])


def _why_no_score(group: Group) -> str:
    objective = group.variants[0].objective
    if objective is None:
        return "No episode has finished yet."
    return f"No result has a value of {objective.metric} yet."


def _measure(group: Group) -> str:
    """What is compared, in few words."""
    first = group.variants[0]
    return f"objective ({first.row.objective_words})" if first.objective else "final return"


def _certainty(found: Lead, best: Variant, second: Variant) -> str:
    if found.bounds is None:
        return "How sure this is cannot be said: there are too few seeds for an interval."
    chance = f"A seed of {best.label} beats a seed of {second.label} with probability"
    chance = f"{chance} {found.chance}."
    if found.difference.interval is None:
        return f"How sure this is cannot be said: the seeds have no spread. {chance}"
    level = f"{CONFIDENCE:.0%} interval of the difference ({found.difference.method})"
    if found.is_clear:
        return f"The difference is clear: the {level} excludes 0. {chance}"
    return f"The difference is not clear: the {level} contains 0. {chance}"


def _warnings(group: Group) -> Iterator[str]:
    scored = group.scored
    yield from _cautions(scored)
    if len(scored) >= MANY_VARIANTS:
        yield (
            f"The best of {len(scored)} variants was selected by its score, so the score is too "
            "optimistic. Run the best ones again with new seeds: rlssl confirm RUN."
        )
    steps = [one.row.env_steps for one in scored]
    if steps and min(steps) < (1 - _UNEQUAL_STEPS) * max(steps):
        unit = unit_of(one.row.clock for one in scored)
        yield f"Scores are at unequal {unit}: from {min(steps):,} to {max(steps):,}."
    yield from _incomplete(group)
    yield from _versions(group)


def _cautions(scored: Sequence[Variant]) -> Iterator[str]:
    """What is to be said about the intervals of the two best variants, and about few seeds."""
    found: dict[str, list[Variant]] = {}
    scores = [score for one in scored for score in one.scores]
    shares = bool(scored) and _range(*scored).has_shares(scores)
    for rank, one in enumerate(scored):
        for caution in cautions_of(one.scores, "Wilson" if shares else "t"):
            if rank < 2 or caution.code.endswith(("seed", "seeds")):
                found.setdefault(caution.words, []).append(one)
        if one.objective is None:
            for caution in few_episodes_cautions(one.row.few_episodes):
                found.setdefault(caution.words, []).append(one)
    for words, having in found.items():
        are_all = len(having) == len(scored) > 1
        yield f"{'All variants' if are_all else listed(having)}: {words}"


def _incomplete(group: Group) -> Iterator[str]:
    """Seeds that failed or did not finish, and points without a trial."""
    for status in ("failed", "unfinished"):
        having = [
            one
            for one in group.variants
            if one.row.num_finished and any(trial.status == status for trial in one.trials)
        ]
        number = sum(trial.status == status for one in having for trial in one.trials)
        if number:
            seeds = "1 seed" if number == 1 else f"{number} seeds"
            is_or_has = _STATUS_WORDS[status][number > 1]
            yield f"{seeds} {is_or_has} not in the scores: {listed(having)}."
    started = [one for one in group.variants if one.trials]
    without = [one for one in started if not one.row.num_finished]
    if without and len(without) == len(started):
        yield "No seed has finished: all scores are of unfinished seeds."
    elif without:
        yield f"Not compared, because no seed has finished: {listed(without)}."
    yield from _without_result(group)


def _without_result(group: Group) -> Iterator[str]:
    """Seeds that failed before their first result, or have not begun; and points of only such."""
    lost = {
        f"{one.label} (seed {', '.join(map(str, seeds_without_result(one.trials)))})": one
        for one in group.variants
        if one.trials and one.num_without_result
    }
    number = sum(one.num_without_result for one in lost.values())
    if number:
        seeds = "1 seed has" if number == 1 else f"{number} seeds have"
        yield f"{seeds} no result, so that the scores are without: {_first(list(lost))}."
    missing = [one for one in group.variants if not one.trials]
    if missing:
        points = "1 point has" if len(missing) == 1 else f"{len(missing)} points have"
        yield f"{points} no result: {listed(missing)}."


def listed(variants: Sequence[Variant]) -> str:
    """The names of the first variants, and how many more there are."""
    return _first([one.label for one in variants])


def _first(names: Sequence[str]) -> str:
    first = ", ".join(names[:3])
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else first


def _versions(group: Group) -> Iterator[str]:
    """Versions of rlssl, Ray and torch that differ between the trials."""
    found: dict[str, set[str]] = {}
    for trial in (trial for one in group.variants for trial in one.trials):
        known = trial.spec.get("provenance") or {}
        versions = {**(known.get("versions") or {}), "commit": known.get("git_commit")}
        for name in ("rlssl", "ray", "torch", "commit"):
            if versions.get(name):
                found.setdefault(name, set()).add(str(versions[name])[:12])
    differing = {name: sorted(values) for name, values in found.items() if len(values) > 1}
    if differing:
        words = "; ".join(f"{name}: {', '.join(values)}" for name, values in differing.items())
        yield f"Trials were made with different versions: {words}."


def headline(report: Report, verdicts: Sequence[Verdict]) -> str:
    """What the report says about its runs before the verdicts; "" with one verdict."""
    if len(verdicts) == 1:
        return ""
    found = over_tasks(report)
    overall = f"{found.headline} " if found is not None and found.headline else ""
    return (
        f"{overall}{len(report.variants)} variants under {len(verdicts)} protocols. Each protocol "
        "has its own verdict and table: no returns are compared or averaged across protocols."
    )
