"""What a reader must know before trusting an interval over few seeds, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlssl.analysis.statistics.intervals import MIN_SEEDS

#: With fewer seeds, an interval is given with a caution.
FEW_SEEDS = 5
#: With fewer seeds, a percentile bootstrap is too narrow: of normal scores, 95 % intervals of the
#: mean held the truth in 76 % of simulated experiments of 3 seeds, 84 % of 5, 90 % of 10.
FEW_SEEDS_OF_BOOTSTRAP = 10
#: Scores with a greater sample skewness are far from normal. Three seeds never have more than 0.71.
MOST_SKEWNESS = 1.0

#: Which interval is meant: Student's or Welch's t, Wilson's and those made of it, a bootstrap.
Method = Literal["t", "Wilson", "bootstrap"]


@dataclass(frozen=True)
class Caution:
    """A reason not to trust a number or its interval.

    Args:
        code: A fixed word for programs: no_seeds, one_seed, two_seeds, few_seeds, narrow_bootstrap,
            no_spread, skewed, few_episodes.
        words: The same for readers, one sentence.
    """

    code: str
    words: str


def cautions_of(scores: Sequence[float], method: Method = "t") -> list[Caution]:
    """What is to be said about an interval over these scores.

    Args:
        scores: One finite score for each seed.
        method: How the interval is computed.

    Returns:
        The cautions, the worst one first; none if there are enough seeds.

    Example:
        >>> [one.code for one in cautions_of([1.0, 2.0, 3.0])]
        ['few_seeds']
        >>> cautions_of([1.0, 2.0, 3.0])[0].words
        '3 seeds, fewer than 5: the interval holds only if scores of seeds are near normal.'
    """
    count = len(scores)
    if count < MIN_SEEDS:
        return [_too_few(count)]
    found = []
    if count < FEW_SEEDS:
        condition = {
            "t": "the interval holds only if scores of seeds are near normal",
            "Wilson": "the interval is wide, and says little",
            "bootstrap": "the interval is far too narrow",
        }[method]
        words = f"{count} seeds, fewer than {FEW_SEEDS}: {condition}."
        found.append(Caution("few_seeds", words))
    elif method == "bootstrap" and count < FEW_SEEDS_OF_BOOTSTRAP:
        words = f"{count} seeds: a bootstrap of fewer than {FEW_SEEDS_OF_BOOTSTRAP} is too narrow."
        found.append(Caution("narrow_bootstrap", words))
    if method != "Wilson":
        found += _of_spread(np.asarray(scores, np.float64))
    return found


def _too_few(count: int) -> Caution:
    if count == 0:
        return Caution("no_seeds", "No seed has a score.")
    words = {1: "1 seed", 2: "2 seeds"}[count]
    code = {1: "one_seed", 2: "two_seeds"}[count]
    return Caution(code, f"{words}: no interval; other seeds may give any other score.")


def _of_spread(scores: np.ndarray) -> list[Caution]:
    spread = scores.std()
    # Equal scores may differ by rounding of their mean.
    if spread <= 1e-12 * np.abs(scores).max(initial=0.0):
        words = "All seeds have the same score: they do not say how far other seeds lie apart."
        return [Caution("no_spread", words)]
    skewness = float(np.mean(((scores - scores.mean()) / spread) ** 3))
    if abs(skewness) > MOST_SKEWNESS:
        words = f"Scores of seeds are far from normal (skewness {skewness:.1f}): look at each seed."
        return [Caution("skewed", words)]
    return []
