"""One searched path: the space of its values, which may hold further spaces."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Kind of distribution -> names of its arguments. Names and order are those of Ray Tune.
DISTRIBUTIONS = {
    "uniform": ("lower", "upper"),
    "quniform": ("lower", "upper", "q"),
    "loguniform": ("lower", "upper"),
    "qloguniform": ("lower", "upper", "q"),
    "randint": ("lower", "upper"),
    "qrandint": ("lower", "upper", "q"),
    "lograndint": ("lower", "upper"),
    "qlograndint": ("lower", "upper", "q"),
    "randn": ("mean", "sd"),
    "qrandn": ("mean", "sd", "q"),
}
LISTS = ("grid", "choice")
KINDS = (*LISTS, *DISTRIBUTIONS)


@dataclass(frozen=True)
class Dimension:
    """One searched path, or a space inside of a value of a choice.

    Attributes:
        path: Dotted path in the spec, such as ``auxiliary.icm.coeff``.
        kind: One of ``KINDS``.
        arguments: The values of a grid or choice, or the arguments of a distribution. A value may
            be a mapping with further spaces: ``{"icm": {"coeff": Dimension(...)}}``.

    Example:
        >>> Dimension("training.num_epochs", "randint", (1, 5)).examples  # the bound 5 is exclusive
        (1, 4)
    """

    path: str
    kind: str
    arguments: tuple[Any, ...]

    @property
    def is_grid(self) -> bool:
        """Whether every value is tried, instead of drawn at random."""
        return self.kind == "grid"

    @property
    def draws(self) -> bool:
        """Whether any of its values is drawn."""
        return not self.is_grid or any(True for _ in self.inner)

    @property
    def inner(self) -> Iterator["Dimension"]:
        """The spaces inside of the values, at any depth."""
        for value in self.arguments if self.kind in LISTS else ():
            for below in _spaces_in(value):
                yield below
                yield from below.inner

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The lowest and the highest value of a distribution with bounds.

        Example:
            >>> Dimension("a", "qrandint", (8, 16, 8)).bounds
            (8, 16)
        """
        first, second = self.arguments[:2]
        if "randint" in self.kind:
            inclusive = len(self.arguments) == 3 and self.arguments[2] != 1
            return (first, second if inclusive else second - 1)
        return (float(first), float(second))

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values of the path: all of a grid or choice, or the bounds of a distribution."""
        if self.kind in LISTS:
            return tuple(found for value in self.arguments for found in _examples(value))
        if "randn" in self.kind:
            return (float(self.arguments[0]),)
        return self.bounds

    def draw(self, choose: Callable[["Dimension"], Any]) -> Any:
        """Draws a value.

        Args:
            choose: Gives a value of a distribution, or the index of a value of a list.

        Example:
            >>> inner = Dimension("auxiliary.icm.coeff", "uniform", (0, 1))
            >>> whole = Dimension("auxiliary", "choice", ({}, {"icm": {"coeff": inner}}))
            >>> whole.draw(lambda space: 1 if space.kind == "choice" else 0.5)
            {'icm': {'coeff': 0.5}}
        """
        chosen = choose(self)
        return _filled(self.arguments[chosen], choose) if self.kind in LISTS else chosen

    def parameters_of(self, value: Any) -> dict["Dimension", Any] | None:
        """What `draw` chose for a value: space -> value, or index; None if it cannot draw it.

        Example:
            >>> list(Dimension("a", "choice", ("x", "y")).parameters_of("y").values())
            [1]
            >>> Dimension("a", "uniform", (0, 1)).parameters_of(2.0) is None
            True
        """
        if self.kind not in LISTS:
            return {self: value} if self._has(value) else None
        for index, template in enumerate(self.arguments):
            inner = _matched(template, value)
            if inner is not None:
                return {self: index, **inner}
        return None

    def _has(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if "randint" in self.kind and value != int(value):
            return False
        if self.kind.startswith("q") and not is_multiple(value, self.arguments[2]):
            return False
        low, high = (-math.inf, math.inf) if "randn" in self.kind else self.bounds
        return bool(low <= value <= high)

    def __hash__(self) -> int:
        """The values of a choice may be mappings, which have no hash."""
        return hash((self.path, self.kind))

    def to_tune(self) -> Any:
        """The search object of Ray Tune."""
        from ray import tune

        values = list(self.arguments)
        if self.kind == "grid":
            return tune.grid_search(values)
        if self.kind == "choice":
            return tune.choice(values)
        return getattr(tune, self.kind)(*values)


def is_multiple(value: float, step: float) -> bool:
    """Whether a value is a multiple of a step, except for rounding.

    Example:
        >>> is_multiple(0.1 + 0.2, 0.1), is_multiple(0.25, 0.1)
        (True, False)
    """
    return math.isclose(value / step, round(value / step), abs_tol=1e-9)


def as_text(value: Any) -> str:
    """A value of a list as text; spaces inside of it by their kind and arguments."""
    return json.dumps(value, sort_keys=True, default=lambda space: [space.kind, *space.arguments])


def _spaces_in(value: Any) -> Iterator[Dimension]:
    if isinstance(value, Dimension):
        yield value
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _spaces_in(below)


def _filled(value: Any, choose: Callable[[Dimension], Any]) -> Any:
    if isinstance(value, Dimension):
        return value.draw(choose)
    if isinstance(value, Mapping):
        return {key: _filled(below, choose) for key, below in value.items()}
    return value


def _examples(value: Any) -> list[Any]:
    """The value with the first example of each space in it; then with each other example."""
    spaces = list(_spaces_in(value))
    first = {space: space.examples[0] for space in spaces}
    others = [{**first, space: example} for space in spaces for example in space.examples[1:]]
    return [_with(value, chosen) for chosen in [first, *others]]


def _with(value: Any, chosen: Mapping[Dimension, Any]) -> Any:
    if isinstance(value, Dimension):
        return chosen[value]
    if isinstance(value, Mapping):
        return {key: _with(below, chosen) for key, below in value.items()}
    return value


def _matched(template: Any, value: Any) -> dict[Dimension, Any] | None:
    """What was drawn for the spaces in a template; None if the template cannot give the value."""
    if isinstance(template, Dimension):
        return template.parameters_of(value)
    if not isinstance(template, Mapping) or not isinstance(value, Mapping):
        # True == 1 in Python, but not in a spec.
        is_same = isinstance(template, bool) == isinstance(value, bool) and template == value
        return {} if is_same else None
    if template.keys() != value.keys():
        return None
    found: dict[Dimension, Any] = {}
    for key, below in template.items():
        inner = _matched(below, value[key])
        if inner is None:
            return None
        found |= inner
    return found
