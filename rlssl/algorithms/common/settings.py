"""Training settings: one frozen dataclass per algorithm, and everything derived from it.

A field is the only place of a setting's default, range and meaning. The arguments of
``.training()``, the checks of a spec, the tables in the docs and the network settings all come
from the fields.
"""

import copy
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Self

from ray.rllib.algorithms.algorithm_config import NotProvided

from rlssl.errors import SpecError
from rlssl.schedules import Schedule, check_schedule

#: Kinds of observations that defaults may depend on; frames are images of 36 pixels a side or more.
InputKind = Literal["vectors", "frames"]


class ByInput(NamedTuple):
    """A default that depends on the observations."""

    vectors: Any
    frames: Any


@dataclasses.dataclass(frozen=True)
class Description:
    """Describes a setting; its field has the default and the type."""

    # Meaning and unit, in one or two sentences.
    meaning: str
    # Bounds of numbers: the value must be >= low, > above and <= high; None: no bound.
    low: float | None = None
    above: float | None = None
    high: float | None = None
    # Whether the networks need it.
    is_for_networks: bool = False
    # Whether it is an argument of ``.training()``.
    is_argument: bool = True
    # Whether a run may continue from its checkpoint with another value, which then is in use.
    can_change: bool = False


def setting(default: Any, meaning: str, **description: Any) -> Any:
    """A field of a settings dataclass.

    Args:
        default: The default, or a `ByInput`.
        meaning: See `Description`.
        **description: The other fields of `Description`.
    """
    metadata = {"description": Description(meaning, **description)}
    if type(default).__hash__ is None:
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The settings of an algorithm's ``.training()``.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Settings(TrainingSettings):
        ...     tau: float = setting(ByInput(0.005, 0.01), "Target update rate.", above=0, high=1)
        >>> Settings().for_input("frames").tau
        0.01
    """

    @classmethod
    def descriptions(cls) -> dict[str, Description]:
        """Setting -> its description."""
        return {field.name: field.metadata["description"] for field in dataclasses.fields(cls)}

    @classmethod
    def types(cls) -> dict[str, Any]:
        """Setting -> its type."""
        return typing.get_type_hints(cls)

    @classmethod
    def arguments(cls) -> dict[str, Any]:
        """Argument of ``.training()`` -> its type."""
        types_of = cls.types()
        return {name: types_of[name] for name, it in cls.descriptions().items() if it.is_argument}

    @classmethod
    def for_networks(cls) -> list[str]:
        """The settings that the networks need."""
        return [name for name, it in cls.descriptions().items() if it.is_for_networks]

    @classmethod
    def changeable(cls) -> list[str]:
        """The settings whose values can change in a run, as a population's do."""
        return [name for name, it in cls.descriptions().items() if it.can_change]

    def defaults(self) -> dict[str, Any]:
        """Setting -> default; None where the default depends on the observations."""
        return {name: None if is_by_input else value for name, value, is_by_input in self._values()}

    def by_input(self, kind: InputKind) -> dict[str, Any]:
        """The defaults that depend on the observations, for one kind of observations."""
        return {
            name: getattr(value, kind) for name, value, is_by_input in self._values() if is_by_input
        }

    def for_input(self, kind: InputKind) -> Self:
        """All defaults for one kind of observations."""
        return dataclasses.replace(self, **self.by_input(kind))

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Checks choices, sizes, schedules and ranges; None is not checked.

        Raises:
            SpecError: Naming the key and the value.
        """
        types_of = cls.types()
        for name, description in cls.descriptions().items():
            if values[name] is not None:
                _check(f"training.{name}", values[name], types_of[name], description)

    def _values(self) -> list[tuple[str, Any, bool]]:
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return [(name, value, isinstance(value, ByInput)) for name, value in values]


def builder(settings_class: type[TrainingSettings]) -> Callable[..., Any]:
    """A config's ``training`` method, with the settings as its keyword arguments."""

    def training(self: Any, **settings: Any) -> Any:
        return self.set_training(settings)

    keyword, rest = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
    training.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(
                inspect.Parameter(name, keyword, default=NotProvided, annotation=annotation)
                for name, annotation in settings_class.arguments().items()
            ),
            inspect.Parameter("rllib", rest, annotation=Any),
        ]
    )
    described = settings_class.descriptions()
    lines = [f"    {name}: {described[name].meaning}" for name in settings_class.arguments()]
    training.__doc__ = "\n".join(
        [
            "Sets what an update does. Schedules are a number or [[env_steps, value], ...].",
            "",
            "Args:",
            *lines,
            "    **rllib: Further arguments that RLlib passes when it copies a config.",
        ]
    )
    return training


def may_be_none(annotation: Any) -> bool:
    """Whether a setting of this type may have the value None."""
    return type(None) in typing.get_args(annotation)


def _check(key: str, value: Any, annotation: Any, description: Description) -> None:
    if choices := _choices(annotation):
        if value not in choices:
            raise SpecError(f"{key} must be one of {list(choices)}; got {value!r}.")
    elif annotation in (Schedule, Schedule | None):
        _check_schedule(key, value)
    elif annotation == list[int]:
        if any(type(size) is not int or size < 1 for size in value):
            raise SpecError(f"{key} must list sizes >= 1; got {value}.")
    else:
        _check_range(key, value, description)


def _choices(annotation: Any) -> tuple[str, ...]:
    """The values of a ``Literal`` type; () for other types."""
    if typing.get_origin(annotation) is Literal:
        return typing.get_args(annotation)
    if typing.get_origin(annotation) is types.UnionType:
        return _choices(typing.get_args(annotation)[0])
    return ()


def _check_schedule(key: str, value: Any) -> None:
    try:
        check_schedule(value, key)
    except ValueError as error:
        raise SpecError(str(error)) from error


def _check_range(key: str, value: Any, description: Description) -> None:
    low, above, high = description.low, description.above, description.high
    bounds = []
    if low is not None:
        bounds.append((value >= low, f">= {low}"))
    if above is not None:
        bounds.append((value > above, f"> {above}"))
    if high is not None:
        bounds.append((value <= high, f"<= {high}"))
    if not all(holds for holds, _ in bounds):
        raise SpecError(f"{key} must be {' and '.join(words for _, words in bounds)}; got {value}.")
