"""The settings of ``.data()``: a data set to learn from."""

import dataclasses
from typing import Any

from rlssl.errors import SpecError

#: Share of each batch that comes from the data set, if ``mix`` is not set.
DEFAULT_MIX = 0.5


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """A data set of episodes, and how a run learns from it.

    Example:
        >>> DataSettings("demos").share, DataSettings("demos", offline=True).share
        (0.5, 1.0)
    """

    # Folder or URI of the data set.
    path: str
    # Share of each batch that comes from the data set; in [0, 1]; None: 0.5. The rest comes from
    # the run's own steps.
    mix: float | None = None
    # Whether the run learns from the data set alone, and makes no steps of its own.
    offline: bool = False
    # Share of the episodes that are not trained on, but measured at evaluations; in [0, 1).
    holdout: float = 0.0
    # Number of episodes that are trained on, drawn by the seed of the run; >= 1; None: all that are
    # not held out.
    episodes: int | None = None

    def __post_init__(self) -> None:
        """Checks types and ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        if not isinstance(self.path, str) or not self.path:
            raise SpecError(f"data.path must be a folder or a URI; got {self.path!r}.")
        for key, is_ok, words in (
            ("mix", self.mix is None or _is_share(self.mix, closed=True), "in [0, 1]"),
            ("holdout", _is_share(self.holdout, closed=False), "in [0, 1)"),
        ):
            if not is_ok:
                raise SpecError(f"data.{key} must be {words}; got {getattr(self, key)!r}.")
        if self.episodes is not None and (type(self.episodes) is not int or self.episodes < 1):
            raise SpecError(
                f"data.episodes must be a whole number >= 1, or null; got {self.episodes!r}."
            )
        if self.offline and self.mix is not None:
            raise SpecError(
                f"data.mix: {self.mix} mixes the data set with the run's own steps, and "
                "data.offline: true makes none; leave one of the two out."
            )

    @property
    def share(self) -> float:
        """Share of each batch that comes from the data set."""
        if self.offline:
            return 1.0
        return DEFAULT_MIX if self.mix is None else self.mix


def _is_share(value: Any, *, closed: bool) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (0 <= value <= 1 if closed else 0 <= value < 1)
