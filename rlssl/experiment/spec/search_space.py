"""The search space of a sweep: dotted paths, and the values or distributions of each."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlssl.analysis.points import point_key
from rlssl.errors import SpecError, suggest
from rlssl.experiment.spec.dimension import DISTRIBUTIONS, KINDS, LISTS, Dimension, is_multiple
from rlssl.experiment.spec.yaml_reader import plain
from rlssl.system.json_output import readable_json

if TYPE_CHECKING:
    from rlssl.experiment.spec.schema import Spec

#: Sections that a search can vary: those that configure a trial, not the sweep as a whole.
SEARCHABLE = (
    "algorithm",
    "auxiliary",
    "connectors",
    "data",
    "env",
    "env_runners",
    "env_step_timeout_s",
    "evaluation",
    "model",
    "preset",
    "training",
    "variant",
    "watchdog_s",
)

#: A larger grid is refused as a mistake.
MAX_GRID_POINTS = 10_000

#: In a larger grid, not every combination is checked, because each check takes milliseconds.
MAX_COMBINATIONS_CHECKED = 256

#: Draws of a sample until it is a point that no earlier sample is.
_MAX_DRAWS = 100


def dimensions(search: Mapping[str, Any]) -> list[Dimension]:
    """Reads the ``search`` section: ``{path: {kind: arguments}}``.

    Raises:
        SpecError: If a kind is unknown, arguments are wrong, a path cannot be searched, or two
            paths overlap.

    Example:
        >>> dimensions({"training.lr": {"grid": [0.1, 0.2]}})
        [Dimension(path='training.lr', kind='grid', arguments=(0.1, 0.2))]
    """
    read = [_read_dimension(path, entry) for path, entry in search.items()]
    _refuse_overlaps([dimension.path for dimension in read])
    size = math.prod(len(dimension.arguments) for dimension in read if dimension.is_grid)
    if size > MAX_GRID_POINTS:
        raise SpecError(
            f"search: the grid has {size} points; at most {MAX_GRID_POINTS} are allowed. "
            "Draw points at random: use choice, and searcher: {random: {num_samples: 32}}."
        )
    return read


def _read_dimension(path: str, entry: Any) -> Dimension:
    head = path.split(".")[0]
    if not all(path.split(".")) or head not in SEARCHABLE:
        hint = "list the seeds under 'seeds'" if head in ("seed", "seeds") else None
        end = f"; {hint}." if hint else suggest(head, SEARCHABLE)
        raise SpecError(f"search cannot vary '{path}'{end}")
    if isinstance(entry, Mapping) and len(entry) > 1 and set(entry) <= set(KINDS):
        raise SpecError(f"search.{path} has {len(entry)} spaces: {', '.join(entry)}; keep one.")
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise SpecError(
            f"search.{path} must be one of {{{': ...}, {'.join(KINDS)}: ...}}; got {entry!r}. "
            "Write paths with dots: training.lr: {grid: [1e-4, 3e-4]}."
        )
    return _read_space(path, path, *next(iter(entry.items())))


def _read_space(path: str, where: str, kind: str, arguments: Any) -> Dimension:
    """Reads ``{kind: arguments}``; the values of a list may have further spaces inside.

    Args:
        path: Dotted path of the space; inside of a list, with the index of the value if other
            values have a space at the same place.
        where: The same, for messages.
        kind: Kind of the space.
        arguments: Its values or bounds.
    """
    if kind not in KINDS:
        raise SpecError(f"unknown search '{kind}' at 'search.{where}'{suggest(kind, KINDS)}")
    if kind not in LISTS:
        _check_distribution(where, kind, arguments)
        return Dimension(path, kind, tuple(arguments))
    _check_values(where, kind, arguments)
    places = [set(_places(value, "")) for value in arguments]
    read = []
    for index, value in enumerate(arguments):
        is_shared = any(places[index] & other for other in places[:index] + places[index + 1 :])
        read.append(_read_inner(f"{path}[{index}]" if is_shared else path, value, is_inside=False))
    return Dimension(path, kind, tuple(read))


def _is_space(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS


def _places(value: Any, place: str) -> Iterator[str]:
    """Where the spaces inside of a value are."""
    if _is_space(value) and place:
        yield place
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _places(below, f"{place}.{key}")


def _read_inner(path: str, value: Any, *, is_inside: bool) -> Any:
    """A value of a list, with every space inside of it read."""
    if not isinstance(value, Mapping):
        return value
    if _is_space(value) and not is_inside:
        raise SpecError(
            f"search.{path} lists {value!r}, which is a space itself; a space can only be inside "
            "of a listed value, as {icm: {coeff: {uniform: [0, 1]}}}."
        )
    if _is_space(value):
        kind, arguments = next(iter(value.items()))
        if kind == "grid":
            raise SpecError(
                f"search.{path}.grid is inside of another list, where values can only be drawn; "
                "use choice."
            )
        return _read_space(path, path, kind, arguments)
    return {
        key: _read_inner(f"{path}.{key}", below, is_inside=True) for key, below in value.items()
    }


def _check_values(path: str, kind: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise SpecError(f"search.{path}.{kind} must be a list of values; got {values!r}.")
    texts = [readable_json(value, sort_keys=True) for value in values]
    for text in texts:
        if texts.count(text) > 1:
            raise SpecError(f"search.{path}.{kind} lists {text} twice; list each value once.")


def _check_distribution(path: str, kind: str, arguments: Any) -> None:
    names = DISTRIBUTIONS[kind]
    where = f"search.{path}.{kind}"
    expected = f"[{', '.join(names)}]"
    if not isinstance(arguments, list) or len(arguments) != len(names):
        raise SpecError(f"{where} takes {expected}; got {arguments!r}.")
    number = int if "randint" in kind else (int, float)
    word = "whole numbers" if "randint" in kind else "numbers"
    for value in arguments:
        if isinstance(value, bool) or not isinstance(value, number) or not math.isfinite(value):
            raise SpecError(f"{where} takes {expected} as {word}; got {arguments!r}.")
    _check_range(where, kind, dict(zip(names, arguments, strict=True)))


def _check_range(where: str, kind: str, given: Mapping[str, float]) -> None:
    if "lower" in given and not given["lower"] < given["upper"]:
        raise SpecError(f"{where} needs lower < upper; got {list(given.values())}.")
    if "log" in kind and not given["lower"] > 0:
        raise SpecError(f"{where} needs lower > 0; got {given['lower']}.")
    for name in ("q", "sd"):
        if name in given and not given[name] > 0:
            raise SpecError(f"{where} needs {name} > 0; got {given[name]}.")
    for name in ("lower", "upper"):
        # Tune refuses such a bound.
        if "q" in given and name in given and not is_multiple(given[name], given["q"]):
            raise SpecError(
                f"{where}: {name} must be a multiple of q; got {given[name]} and {given['q']}."
            )


def _refuse_overlaps(paths: list[str]) -> None:
    for one, other in itertools.permutations(paths, 2):
        if other.startswith(f"{one}."):
            raise SpecError(
                f"search: '{one}' and '{other}' both set '{other}'; "
                f"search either whole values of '{one}', or paths below it."
            )


def points(spec: "Spec") -> list[dict[str, Any]]:
    """The points of the grid, each as ``{path: value}``; ``[{}]`` without a grid.

    The last path of the file varies fastest.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}
        >>> search = {"training.lr": {"grid": [0.1, 0.2]}, "training.gamma": {"grid": [0.9]}}
        >>> for point in points(load_spec({**document, "search": search})):
        ...     print(point)
        {'training.lr': 0.1, 'training.gamma': 0.9}
        {'training.lr': 0.2, 'training.gamma': 0.9}
    """
    return _product([dimension for dimension in dimensions(spec.search) if dimension.is_grid])


def _product(grid: list[Dimension]) -> list[dict[str, Any]]:
    rows = itertools.product(*(dimension.examples for dimension in grid))
    paths = [dimension.path for dimension in grid]
    return [dict(zip(paths, row, strict=True)) for row in rows]


def _cells(grid: list[Dimension]) -> list[dict[str, int]]:
    """The points of the grid, each as ``{path: index of the value}``."""
    rows = itertools.product(*(range(len(dimension.arguments)) for dimension in grid))
    paths = [dimension.path for dimension in grid]
    return [dict(zip(paths, row, strict=True)) for row in rows]


def points_to_check(spec: "Spec") -> list[dict[str, Any]]:
    """Complete points that together hold every value of grids and choices, and every bound.

    A small grid gives every combination. A larger grid gives each value combined with the first
    values of the other paths.
    """
    every = sorted(dimensions(spec.search), key=lambda dimension: dimension.is_grid)
    first = {dimension.path: dimension.examples[0] for dimension in every}
    grid = [dimension for dimension in every if dimension.is_grid]
    if math.prod(len(dimension.examples) for dimension in grid) > MAX_COMBINATIONS_CHECKED:
        grid = []
    others = [
        {**first, dimension.path: example}
        for dimension in every
        if dimension not in grid
        for example in dimension.examples[1:]
    ]
    return [{**first, **point} for point in _product(grid)] + others


def has_random(spec: "Spec") -> bool:
    """Whether any searched path is drawn."""
    return any(dimension.draws for dimension in dimensions(spec.search))


def adapts(spec: "Spec") -> bool:
    """Whether the searcher chooses each point by the scores of the points before."""
    return spec.searcher is not None and bool(spec.searcher.optuna or spec.searcher.hyperopt)


def num_samples(spec: "Spec") -> int:
    """Number of draws for each point of the grid; 1 without random entries."""
    settings = spec.searcher.settings if spec.searcher is not None else None
    return settings.num_samples if settings is not None else 1


def search_seed(spec: "Spec") -> int:
    """The seed of the draws; 0 without a searcher."""
    settings = spec.searcher.settings if spec.searcher is not None else None
    return settings.seed if settings is not None else 0


def draw_points(spec: "Spec") -> list[dict[str, Any]]:
    """The points of the sweep: each point of the grid, with draws for the random entries.

    Every point has draws of its own. They depend only on the spec and on ``searcher.random.seed``:
    more samples leave the first ones as they are. A point is never drawn twice, because its trials
    would be equal. If the search has no more points, there are fewer.

    For a searcher that adapts, these are points of the space, but not those that it will suggest.

    Returns:
        Dotted path -> value, for every searched path; ``[{}]`` without a search.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> document = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}
        >>> search = {"training.lr": {"grid": [0.1, 0.2]}, "training.gamma": {"choice": [0.9, 1.0]}}
        >>> searcher = {"random": {"num_samples": 5, "seed": 3}}
        >>> len(draw_points(load_spec({**document, "search": search, "searcher": searcher})))
        4
    """
    space = dimensions(spec.search)
    if spec.searcher is not None and spec.searcher.points is not None:
        return [{path: point[path] for path in spec.search} for point in spec.searcher.points]
    if spec.searcher is None or not has_random(spec):
        return points(spec)
    cells = _cells([dimension for dimension in space if dimension.is_grid])
    choose_random = _random_chooser(space, search_seed(spec))
    drawn: dict[str, dict[str, Any]] = {}
    for _ in range(num_samples(spec)):
        for cell in cells:

            def choose(space: Dimension, cell: Mapping[str, Any] = cell) -> Any:
                return cell[space.path] if space.is_grid else choose_random(space)

            for _ in range(_MAX_DRAWS):
                point = {one.path: one.draw(choose) for one in space}
                if drawn.setdefault(point_key(point), point) is point:
                    break
    return list(drawn.values())


def random_points(
    space: Sequence[Dimension], seed: int | Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Random points of a space without grids, without end."""
    choose = _random_chooser(space, seed)
    while True:
        yield {one.path: one.draw(choose) for one in space}


def _random_chooser(
    space: Sequence[Dimension], seed: int | Sequence[int]
) -> Callable[[Dimension], Any]:
    """Draws a value of a distribution, or the index of a value of a choice."""
    generator = np.random.default_rng(seed)
    every = [one for outer in space for one in (outer, *outer.inner)]
    domains = {one: one.to_tune() for one in every if one.kind not in LISTS}

    def choose(one: Dimension) -> Any:
        if one.kind in LISTS:
            return int(generator.integers(len(one.arguments)))
        return plain(domains[one].sample(random_state=generator), one.path)

    return choose


def num_points(spec: "Spec") -> int:
    """Number of points of the whole sweep; the most that there can be, if the searcher adapts."""
    return num_samples(spec) if adapts(spec) else len(draw_points(spec))


def num_trials(spec: "Spec") -> int:
    """Number of trials of the whole sweep: points x seeds."""
    return num_points(spec) * len(spec.seeds)


def to_tune(spec: "Spec") -> dict[str, Any]:
    """The searched paths as Tune's search objects; ``at_point`` takes the values of a trial."""
    return {dimension.path: dimension.to_tune() for dimension in dimensions(spec.search)}
