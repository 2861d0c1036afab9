"""The options of the distractors in frames, and their checks."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlssl.errors import SpecError, suggest


@dataclasses.dataclass(frozen=True)
class NoiseOptions:
    """Gaussian noise on each pixel and channel."""

    # Standard deviation, as a share of 255; in (0, 1].
    scale: float = 0.1
    # "everywhere", or "background": only on floor and sky.
    where: str = "everywhere"

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_number("scale", self.scale, most=1.0)
        _check_one_of("where", self.where, ("everywhere", "background"))


@dataclasses.dataclass(frozen=True)
class DiscOptions:
    """Discs that move in straight lines and bounce off the sides of the frame."""

    # Number of discs; >= 1.
    number: int = 6
    # Radius, as a share of the frame's shorter side; in (0, 0.5].
    radius: float = 0.08
    # Way in an agent step, as a share of the frame's shorter side; in (0, 0.5].
    speed: float = 0.03
    # "front": over the body; "background": behind it, in front of floor and sky.
    where: str = "front"

    def __post_init__(self) -> None:
        """Checks ranges."""
        if type(self.number) is not int or self.number < 1:
            raise ValueError(f"number must be a whole number >= 1; got {self.number!r}.")
        _check_number("radius", self.radius, most=0.5)
        _check_number("speed", self.speed, most=0.5)
        _check_one_of("where", self.where, ("front", "background"))


@dataclasses.dataclass(frozen=True)
class ColorOptions:
    """Other colors of the materials in each episode."""

    # Largest shift of a channel of a material, as a share of its range; in (0, 1].
    scale: float = 0.3

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_number("scale", self.scale, most=1.0)


@dataclasses.dataclass(frozen=True)
class CameraOptions:
    """Another view in each episode."""

    # Largest angle around the body, above it, and of the roll, degrees; in (0, 45].
    degrees: float = 5.0
    # Largest relative change of the field of view; in [0, 0.5].
    zoom: float = 0.1

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_number("degrees", self.degrees, most=45.0)
        if self.zoom != 0:
            _check_number("zoom", self.zoom, most=0.5)


@dataclasses.dataclass(frozen=True)
class VideoOptions:
    """The user's videos or images instead of floor and sky; see the module ``video``.

    ``video: FOLDER`` is short for ``video: {folder: FOLDER}``.
    """

    # Folder with the files.
    folder: str
    # Whether the files are shown in gray, as in published code.
    gray: bool = False

    def __post_init__(self) -> None:
        """Checks types."""
        if not isinstance(self.folder, str) or not self.folder:
            raise ValueError(f"folder must be the path of a folder; got {self.folder!r}.")
        if not isinstance(self.gray, bool):
            raise ValueError(f"gray must be true or false; got {self.gray!r}.")


#: Name -> options of each distractor.
OPTIONS: Mapping[str, type] = {
    "noise": NoiseOptions,
    "discs": DiscOptions,
    "colors": ColorOptions,
    "camera": CameraOptions,
    "video": VideoOptions,
}


def parse(given: Mapping[str, Any]) -> dict[str, Any]:
    """Name of each distractor -> its options.

    Raises:
        SpecError: If a name, an option or its value is wrong; names key and value.

    Example:
        >>> parse({"noise": {"scale": 0.2}, "colors": True})["noise"]
        NoiseOptions(scale=0.2, where='everywhere')
    """
    found = {}
    for name, value in given.items():
        if name not in OPTIONS:
            raise SpecError(f"unknown option env.distractors.{name}{suggest(str(name), OPTIONS)}")
        found[name] = _options(name, value)
    return found


def _options(name: str, value: Any) -> Any:
    if name == "video" and isinstance(value, str):
        value = {"folder": value}
    if value is True and name != "video":
        value = {}
    if not isinstance(value, Mapping):
        wanted = "a folder, or a mapping of options" if name == "video" else "options, or true"
        raise SpecError(f"env.distractors.{name} must be {wanted}; got {value!r}.")
    known = [field.name for field in dataclasses.fields(OPTIONS[name])]
    for key in value:
        if key not in known:
            guess = suggest(str(key), known)
            raise SpecError(f"unknown option env.distractors.{name}.{key}{guess}")
    if name == "video" and "folder" not in value:
        raise SpecError(f"env.distractors.video needs a folder; got {dict(value)!r}.")
    try:
        return OPTIONS[name](**value)
    except ValueError as error:
        raise SpecError(f"env.distractors.{name}.{error}") from error


def _check_number(key: str, value: Any, *, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= most or math.isnan(value):
        raise ValueError(f"{key} must be a number in (0, {most:g}]; got {value!r}.")


def _check_one_of(key: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{key} must be {' or '.join(known)}; got {value!r}.")
