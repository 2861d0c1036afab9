"""The `diagnostics` section of a spec: names of diagnostics, and their options.

Reading a spec imports this module, so it imports neither torch nor Ray.
"""

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rlssl.errors import SpecError, suggest


@dataclasses.dataclass(frozen=True)
class RanksOptions:
    """Options of `rlssl.diagnostics.ranks.ranks`."""

    # Share of the sum of the singular values that srank may leave out; in (0, 1).
    delta: float = 0.01

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_number("delta", self.delta, low=0.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class DormantOptions:
    """Options of `rlssl.diagnostics.dormant.dormant`."""

    # Largest score of a dormant unit, relative to the mean of its layer; >= 0.
    tau: float = 0.1

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_number("tau", self.tau, low=0.0, high=math.inf, closed=True)


@dataclasses.dataclass(frozen=True)
class RewardProbeOptions:
    """Options of `rlssl.diagnostics.probes.reward_probe`."""

    # The probe tells rewards above this quantile from the others; in (0, 1).
    quantile: float = 0.5

    def __post_init__(self) -> None:
        """Checks ranges."""
        _check_number("quantile", self.quantile, low=0.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class ActionProbeOptions:
    """Options of `rlssl.diagnostics.probes.action_probe`: none."""


#: Name -> options of each diagnostic.
OPTIONS: Mapping[str, type] = {
    "ranks": RanksOptions,
    "dormant": DormantOptions,
    "reward_probe": RewardProbeOptions,
    "action_probe": ActionProbeOptions,
}

#: The diagnostics that fit on some episodes and test on others.
PROBES = frozenset({"reward_probe", "action_probe"})


def parse_diagnostics(wanted: Sequence[str | Mapping[str, Any]]) -> dict[str, Any]:
    """Name of each diagnostic -> its options.

    Args:
        wanted: Names, or mappings of one name to options.

    Raises:
        SpecError: If a name, an option or its value is wrong; names key, value and fix.

    Example:
        >>> parse_diagnostics(["ranks", {"dormant": {"tau": 0.025}}])["dormant"]
        DormantOptions(tau=0.025)
    """
    if isinstance(wanted, str | Mapping) or not isinstance(wanted, Sequence):
        raise SpecError(f"diagnostics must be a list, as [ranks, dormant]; got {wanted!r}.")
    found: dict[str, Any] = {}
    for entry in wanted:
        name, options = _named(entry)
        if name in found:
            raise SpecError(f"diagnostics: {name!r} is there twice; leave one out.")
        found[name] = _options(name, options)
    return found


class WithDiagnostics:
    """Adds ``.diagnostics()`` to an AlgorithmConfig; a base class of `BaseConfig`."""

    #: Name -> options of each diagnostic. A default of the class, because configs of earlier
    #: versions lack it.
    latent_diagnostics: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({})

    def diagnostics(self, names: Sequence[str | Mapping[str, Any]]) -> Self:
        """Computes diagnostics of the encoder's latents at each seeded evaluation.

        Results have them as ``diagnostics/...``. They do not change what is learned.

        Args:
            names: Some of ``ranks``, ``dormant``, ``reward_probe`` and ``action_probe``, or
                mappings of one name to options: ``{"dormant": {"tau": 0.025}}``. They replace
                earlier ones.

        Raises:
            SpecError: For an unknown name or option, or a bad value.

        Example:
            >>> import rlssl
            >>> config = rlssl.PPOConfig().environment("CartPole-v1")
            >>> config = config.evaluation(every_env_steps=1000).diagnostics(["ranks"])
            >>> config.latent_diagnostics
            {'ranks': {'delta': 0.01}}
        """
        parsed = parse_diagnostics(names)
        found = {name: dataclasses.asdict(options) for name, options in parsed.items()}
        self.latent_diagnostics = found
        return self

    def validate(self) -> None:
        """Checks that there are evaluations, and enough episodes for the probes.

        Raises:
            SpecError: Naming the key and the value.
        """
        config: Any = self
        check_episodes(
            self.latent_diagnostics, config.evaluation_period, config.evaluation_episodes
        )
        super().validate()  # type: ignore[misc]


def check_episodes(names: Mapping[str, Any], period: int | None, episodes: int) -> None:
    """Raises a SpecError unless evaluations give the episodes that diagnostics need.

    Args:
        names: The diagnostics.
        period: Env steps or updates between evaluations; None: there are none.
        episodes: Episodes of one evaluation.

    Example:
        >>> check_episodes({"reward_probe": {}}, 1000, 1)
        Traceback (most recent call last):
        rlssl.errors.SpecError: diagnostics reward_probe: a probe is fitted on some episodes and \
tested on others; set evaluation.episodes to 2 or more; got 1.
    """
    if names and (period is None or episodes == 0):
        raise SpecError(
            f"diagnostics {', '.join(names)}: they use the episodes of evaluations, and there are "
            "none; set evaluation.every_env_steps (every_updates if a data set is all there is), "
            "and evaluation.episodes to 1 or more."
        )
    probes = [name for name in names if name in PROBES]
    if probes and episodes < 2:
        raise SpecError(
            f"diagnostics {', '.join(probes)}: a probe is fitted on some episodes and tested on "
            f"others; set evaluation.episodes to 2 or more; got {episodes}."
        )


def _named(entry: Any) -> tuple[str, Any]:
    if isinstance(entry, Mapping):
        if len(entry) != 1:
            raise SpecError(
                f"diagnostics: one diagnostic for each entry of the list; got {dict(entry)!r}."
            )
        name, options = next(iter(entry.items()))
    else:
        name, options = entry, {}
    if name not in OPTIONS:
        raise SpecError(f"unknown diagnostic {name!r}{suggest(str(name), OPTIONS)}")
    return name, options


def _options(name: str, options: Any) -> Any:
    if not isinstance(options, Mapping):
        raise SpecError(f"diagnostics.{name} must be a mapping of options; got {options!r}.")
    known = [field.name for field in dataclasses.fields(OPTIONS[name])]
    for key in options:
        if key not in known:
            raise SpecError(f"unknown option 'diagnostics.{name}.{key}'{suggest(str(key), known)}")
    try:
        return OPTIONS[name](**options)
    except ValueError as error:
        raise SpecError(f"diagnostics.{name}.{error}") from error


def _check_number(key: str, value: Any, *, low: float, high: float, closed: bool = False) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (low <= value < high if closed else low < value < high):
        return
    wanted = f"a number >= {low:g}" if closed else f"a number in ({low:g}, {high:g})"
    raise ValueError(f"{key} must be {wanted}; got {value!r}.")
