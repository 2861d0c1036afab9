"""The settings of a spec as used, before anything runs."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rlssl.algorithms.common.effective import effective_settings
from rlssl.algorithms.common.settings import InputKind
from rlssl.environments.env_check import EnvSpaces
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import at_point
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import points_to_check

#: Stands in for a value that differs between the points of a search.
BY_POINT = "depends on the point"

_MISSING = object()


def effective_of(spec: Spec, spaces: EnvSpaces | None = None) -> dict[str, Any]:
    """Every setting as used; a default that depends on the observations as {vectors, frames}.

    Args:
        spec: A spec, with or without a search.
        spaces: The spaces of its environment; None: unknown.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> spec = load_spec({"algorithm": "ppo", "env": "CartPole-v1"})
        >>> used = effective_of(spec)["training"]
        >>> used["gamma"], used["lr"]
        (0.99, {'vectors': 0.001, 'frames': 0.00025})
    """
    if not spec.search:
        return _at(spec, spaces)
    if any(path.split(".")[0] == "env" for path in spec.search):
        spaces = None
    points = [at_point(spec, point, spec.seeds[0]) for point in points_to_check(spec)]
    settings = [_at(point, spaces) for point in points]
    merged: dict[str, Any] = _merged(settings, lambda _: BY_POINT)
    return merged


def _at(spec: Spec, spaces: EnvSpaces | None) -> dict[str, Any]:
    if spaces is not None:
        config = build_config(spec)
        config.adapt_to(spaces)
        return effective_settings(config, spaces)
    kinds = get_args(InputKind)
    settings = []
    for kind in kinds:
        config = build_config(spec)
        config.fill_in(kind)
        settings.append(effective_settings(config))
    merged: dict[str, Any] = _merged(settings, lambda each: dict(zip(kinds, each, strict=True)))
    return merged


def _merged(settings: Sequence[Any], differing: Any) -> Any:
    """One value where all are equal, else ``differing(values)``; mappings key by key."""
    first = settings[0]
    if all(type(value) is type(first) and value == first for value in settings):
        return first
    if not all(isinstance(value, Mapping) for value in settings):
        return differing(settings)
    keys = dict.fromkeys(key for value in settings for key in value)
    return {
        key: _merged([value.get(key, _MISSING) for value in settings], differing) for key in keys
    }
