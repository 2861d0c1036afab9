"""Short labels that tell the points of a search apart."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlssl.system.json_output import readable_json

#: A section that is there, even if it is empty: ``{curl: {}}``.
_PRESENT = object()
#: A value that a point does not have.
_ABSENT = object()

_LOSSES = "auxiliary"
#: Values that need no name before them.
_ALONE = ("algorithm", "preset", "variant", "env.id")
#: Longer values are cut.
_MAX_VALUE = 40


def point_labels(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Labels every point by what differs between the points.

    Args:
        points: Each maps dotted paths of the spec to values. All points are different.

    Returns:
        One label for each point. All labels are different.

    Example:
        >>> point_labels([{"auxiliary": {"curl": None}}, {"auxiliary": {"curl": {}}}])
        ['none', 'curl']
        >>> point_labels([{"training.lr": 0.1, "variant": "clip"}, {"training.lr": 0.2}])
        ['lr=0.1, clip', 'lr=0.2, no variant']
        >>> point_labels([{"auxiliary.icm.coeff": 0.5}]), point_labels([{}])
        (['icm.coeff=0.5'], ['default'])
    """
    facts = [dict(_facts_of_point(point)) for point in points]
    for digits in (4, 8, 12, 17):
        labels = _texts(facts, digits=digits)
        if len(set(labels)) == len(labels):
            break
    labels = [label or _empty(point) for label, point in zip(labels, points, strict=True)]
    return [
        label if labels.count(label) == 1 else f"{label} ({_shown(dict(point))}) #{index}"
        for index, (label, point) in enumerate(zip(labels, points, strict=True))
    ]


def _empty(point: Mapping[str, Any]) -> str:
    """The label of a point that has nothing which other points lack."""
    only_losses = point and all(path.split(".")[0] == _LOSSES for path in point)
    return "none" if only_losses else "default"


def _facts_of_point(point: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, value in point.items():
        yield from _facts(
            path, {"id": value} if path == "env" and isinstance(value, str) else value
        )


def _facts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value below ``path``. A loss that is null is left out: the trial does not use it."""
    if value is None and (path == _LOSSES or _is_loss(path)):
        return
    if isinstance(value, Mapping):
        if path != _LOSSES:
            yield path, _PRESENT
        for key, below in value.items():
            yield from _facts(f"{path}.{key}", below)
    else:
        yield path, value


def _is_loss(path: str) -> bool:
    return path.startswith(f"{_LOSSES}.") and path.count(".") == 1


def _texts(facts: Sequence[Mapping[str, Any]], *, digits: int) -> list[str]:
    order = list(dict.fromkeys(path for of_point in facts for path in of_point))
    shown = _differing(facts) or set(order)
    losses = [path for path in order if _is_loss(path)]
    of_losses = [path for path in order if any(_is_below(path, loss) for loss in losses)]
    settings = [path for path in order if path in shown and path not in [*losses, *of_losses]]
    names = _names(settings)
    texts = []
    for of_point in facts:
        words = [_setting(path, of_point, names[path], digits) for path in settings]
        if shown & {*losses, *of_losses}:
            words.append(_losses(of_point, losses, [p for p in of_losses if p in shown], digits))
        texts.append(", ".join(word for word in words if word))
    return texts


def _is_below(path: str, section: str) -> bool:
    return path.startswith(f"{section}.")


def _differing(facts: Sequence[Mapping[str, Any]]) -> set[str]:
    """The paths with several values. Points without the section above a path do not count."""
    found = set()
    for path in {path for of_point in facts for path in of_point}:
        parent = path.rpartition(".")[0]
        having = [of_point for of_point in facts if of_point.get(parent) is _PRESENT]
        values = [of_point.get(path, _ABSENT) for of_point in having or facts]
        if any(_differs(value, values[0]) for value in values[1:]):
            found.add(path)
    return found


def _differs(one: Any, other: Any) -> bool:
    # True == 1 and 1 == 1.0 in Python, but not in a spec.
    return one is not other and (type(one) is not type(other) or one != other)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest ends of the paths that are different; a loss's option keeps the loss's name."""
    names = {}
    for path in paths:
        parts = path.split(".")
        size = 2 if parts[0] == _LOSSES and len(parts) > 2 else 1
        others = [other.split(".") for other in paths if other != path]
        while size < len(parts) and parts[-size:] in [other[-size:] for other in others]:
            size += 1
        names[path] = ".".join(parts[-size:])
    return names


def _losses(
    of_point: Mapping[str, Any], losses: Sequence[str], options: Sequence[str], digits: int
) -> str:
    words = []
    for loss in losses:
        if loss in of_point:
            given = [path for path in options if _is_below(path, loss) and path in of_point]
            names = [path.removeprefix(f"{loss}.") for path in given]
            texts = [
                f"{name}={_shown(of_point[path], digits)}"
                for name, path in zip(names, given, strict=True)
                if of_point[path] is not _PRESENT
            ]
            words.append(" ".join([loss.removeprefix(f"{_LOSSES}."), *texts]))
    return " + ".join(words) or "none"


def _setting(path: str, of_point: Mapping[str, Any], name: str, digits: int) -> str:
    value = of_point.get(path, _ABSENT)
    if path in _ALONE:
        has_value = value is not _ABSENT and value is not None
        return _shown(value, digits) if has_value else f"no {name}"
    if value is _PRESENT:
        return name
    return "" if value is _ABSENT else f"{name}={_shown(value, digits)}"


def _shown(value: Any, digits: int = 4) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, float) and math.isfinite(value):
        text = f"{value:.{digits}g}"
    else:
        text = readable_json(value, default=str)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}..."
