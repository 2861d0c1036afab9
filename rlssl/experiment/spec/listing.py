"""The points of a sweep in words, before it runs."""

from collections.abc import Iterator

from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import adapts, draw_points, has_random, num_trials
from rlssl.system.json_output import readable_json

#: Of more points, the others are only counted.
MOST_LISTED = 20


def points_in_words(spec: Spec) -> Iterator[str]:
    """How many trials there are, and the first points, a line for each.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}
        >>> search = {"training.lr": {"grid": [0.1, 0.2]}}
        >>> for line in points_in_words(load_spec({**document, "search": search})):
        ...     print(line)
        2 trials: points of the grid, each with seeds [0]
          {"training.lr": 0.1}
          {"training.lr": 0.2}
    """
    if adapts(spec):
        yield (
            f"{num_trials(spec):,} trials at most: points that the searcher suggests one by one, "
            f"each with seeds {spec.seeds}"
        )
        return
    points = draw_points(spec)
    kind = "search" if has_random(spec) else "grid"
    yield (
        f"{len(points) * len(spec.seeds):,} trials: points of the {kind}, each with seeds "
        f"{spec.seeds}"
    )
    for point in points[:MOST_LISTED]:
        yield f"  {readable_json(point) if point else 'the spec without changes'}"
    if len(points) > MOST_LISTED:
        yield f"  and {len(points) - MOST_LISTED:,} more"
