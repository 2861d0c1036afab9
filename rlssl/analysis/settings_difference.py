"""The settings of runs or points side by side, and which of them differ."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlssl.analysis.results import Trial
from rlssl.run_files import EFFECTIVE
from rlssl.system.json_output import readable_json
from rlssl.system.secrets import holds_password, is_secret_key

#: Shown instead of a secret.
HIDDEN = "(hidden)"
#: Shown where a side does not have a setting.
ABSENT = "(absent)"

#: Sections of a spec that are settings, if a file of an earlier version has no effective ones.
_SECTIONS = (
    *("algorithm", "preset", "variant", "env", "training", "auxiliary", "model"),
    *("env_runners", "evaluation", "diagnostics"),
)
#: Sections that stand beside the effective settings.
_BESIDE = ("data", "connectors", "stop", "max_failures", "resources")
_VERSIONS, _PROVENANCE = "versions", ("git_commit", "python", "machine")
#: More values of one side are counted, not listed.
_MOST_VALUES = 4


@dataclass(frozen=True)
class SettingRow:
    """One setting on every side.

    Args:
        key: The dotted path: ``training.lr``.
        values: For each side its different values, over its trials; empty if it lacks the setting.

    Example:
        >>> row = SettingRow("training.lr", ((0.1,), (0.2, 0.3), ()))
        >>> row.differs, row.cells
        (True, ('0.1', '0.2 | 0.3', '(absent)'))
    """

    key: str
    values: tuple[tuple[Any, ...], ...]

    @property
    def differs(self) -> bool:
        """Whether two sides have different values. A number equals itself as a float."""
        first = set(map(_identity, self.values[0]))
        return any(set(map(_identity, side)) != first for side in self.values[1:])

    @property
    def cells(self) -> tuple[str, ...]:
        """The values of each side as text."""
        return tuple(map(_cell, self.values))


def compare_settings(sides: Sequence[Sequence[Trial]]) -> list[SettingRow]:
    """Every setting of every side.

    The settings are the effective ones: every setting as used, with defaults, preset and variant;
    and those of the spec that have no effective one, such as ``model.from``. Data, budget,
    resources, versions and machine stand beside them. The seed is no setting. Secrets are hidden;
    two different secrets do not differ.

    Args:
        sides: The trials of each side: of a run, or of a point. Trials of one side may have
            different settings, too.

    Returns:
        A row for each setting, in the order of the files. With a single side, nothing differs.

    Raises:
        ValueError: If there is no side, or a side has no trials.

    Example:
        >>> from pathlib import Path
        >>> from rlssl.analysis.results import Episodes
        >>> import numpy as np
        >>> none = Episodes(*np.empty((4, 0)))
        >>> def side(lr):
        ...     spec = {"effective": {"algorithm": "ppo", "training": {"lr": lr}}}
        ...     return [Trial(Path("a"), spec, {}, 0, "", [], none)]
        >>> rows = compare_settings([side(0.1), side(0.2)])
        >>> [(row.key, row.cells) for row in rows if row.differs]
        [('training.lr', ('0.1', '0.2'))]
    """
    if not sides or not all(sides):
        raise ValueError("every side must have at least one trial.")
    read = [_settings_of_side(trials) for trials in sides]
    keys = dict.fromkeys(key for side in read for key in side)
    return [SettingRow(key, tuple(side.get(key, ()) for side in read)) for key in _ordered(keys)]


def flat_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one trial by dotted path; secrets are hidden.

    Args:
        spec: The content of ``spec.yaml``.

    Example:
        >>> flat_settings({"effective": {"env": {"id": "A", "api_key": "x"}}, "seed": 3})
        {'env.id': 'A', 'env.api_key': '(hidden)'}
    """
    used = spec.get(EFFECTIVE) or {key: spec[key] for key in _SECTIONS if key in spec}
    known = dict(_flatten(used))
    provenance = spec.get("provenance") or {}
    beside = {key: spec[key] for key in _BESIDE if spec.get(key) is not None}
    versions = {
        **(provenance.get(_VERSIONS) or {}),
        **{key: provenance[key] for key in _PROVENANCE if key in provenance},
    }
    more = _flatten({**beside, **({_VERSIONS: versions} if versions else {})})
    return {**known, **_not_in_effect(spec, used, known), **dict(more)}


def _not_in_effect(
    spec: Mapping[str, Any], used: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a spec that the effective ones do not have, such as ``model.from``."""
    sections = {
        name: spec[name]
        for name, content in used.items()
        if isinstance(content, Mapping) and isinstance(spec.get(name), Mapping)
    }
    # A setting may have several effective ones: `augmentation: shift`, and its options.
    return {
        key: value
        for key, value in _flatten(sections)
        if value not in (None, {}, [])
        and not any(one == key or one.startswith(f"{key}.") for one in known)
    }


def _settings_of_side(trials: Sequence[Trial]) -> dict[str, tuple[Any, ...]]:
    each = [flat_settings(trial.spec) for trial in trials]
    settings = {}
    for key in dict.fromkeys(key for one in each for key in one):
        values = [one[key] for one in each if key in one]
        settings[key] = tuple({_identity(value): value for value in values}.values())
    return settings


def _ordered(keys: Mapping[str, None]) -> list[str]:
    """Sections stay together, in the order of the first file that has them."""
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    return sorted(keys, key=lambda key: sections.index(key.partition(".")[0]))


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        path = f"{prefix}{name}"
        if isinstance(inner, Mapping) and inner:
            hidden = is_secret_key(str(name))
            below = _flatten(inner, f"{path}.")
            yield from ((key, HIDDEN) for key, _ in below) if hidden else below
        elif inner is not None and is_secret_key(str(name)):
            yield path, HIDDEN
        else:
            yield path, _without_secrets(inner)


def _without_secrets(value: Any) -> Any:
    """A value of a list may be a mapping with a secret."""
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if is_secret_key(str(name)) else _without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return HIDDEN if isinstance(value, str) and holds_password(value) else value


def _identity(value: Any) -> str:
    """The same text for values with the same meaning: 1 and 1.0, but not 1 and True."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)


def _cell(values: tuple[Any, ...]) -> str:
    if not values:
        return ABSENT
    shown = " | ".join(map(_text, values[:_MOST_VALUES]))
    more = len(values) - _MOST_VALUES
    return f"{shown} | {more} more" if more > 0 else shown


def _text(value: Any) -> str:
    return value if isinstance(value, str) else readable_json(value, default=str)
