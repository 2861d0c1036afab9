"""The names that a spec may use, of every kind; for ``rlssl list`` and ``rlssl.list_names``.

Names come from the registries. Only notes about losses and encoders import torch.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rlssl.errors import PluginError, SpecError, did_you_mean
from rlssl.plugins import load_plugins
from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES, ENCODERS, EXPERTS, Registry


def list_names(*words: str) -> list[dict[str, str]]:
    """The names of environments, algorithms, presets, losses, encoders, experts, sweeps and more.

    Args:
        *words: First, if you like, one of `KINDS`. Then words: a name is listed if each of them
            is in the name, in its note or in the name of its algorithm. Upper and lower case are
            the same.

    Returns:
        ``kind``, ``name`` and ``note`` of each name. A preset and a variant also have
        ``algorithm``.

    Raises:
        SpecError: If nothing has all of these words; with a suggestion.

    Example:
        >>> [row["name"] for row in list_names("presets", "rainbow")]
        ['rainbow', 'dqn', 'data_efficient', 'curl_atari100k']
        >>> list_names("algorithms", "sac")
        [{'kind': 'algorithms', 'name': 'sac', 'note': 'Soft actor-critic.'}]
    """
    kinds = [words[0]] if words and words[0] in KINDS else list(KINDS)
    wanted = [word.lower() for word in words[len(kinds) == 1 :]]
    rows = [{"kind": kind, **row} for kind in kinds for row in KINDS[kind]()]
    found = [row for row in rows if all(_has(row, word) for word in wanted)]
    if not found and wanted:
        known = [*KINDS, *(row["name"] for row in rows)]
        guess = did_you_mean(" ".join(wanted), known) or "."
        raise SpecError(f"rlssl list: nothing has {' and '.join(map(repr, wanted))}{guess}")
    return found


def _has(row: Mapping[str, str], word: str) -> bool:
    return any(word in text.lower() for key, text in row.items() if key != "kind")


def presets_of(algorithm: str, key: str) -> list[str]:
    """The names of an algorithm's presets or variants, without an import of RLlib.

    Args:
        algorithm: Name of the algorithm.
        key: "presets" or "variants".

    Example:
        >>> presets_of("ppo", "variants")
        ['clip', 'adaptive_kl', 'both']
    """
    return list(getattr(_module_of(algorithm, ".presets"), key.upper()))


def loss_names() -> list[str]:
    """The names of the auxiliary losses that are registered so far."""
    import rlssl.auxiliary  # noqa: F401

    return sorted(AUXILIARY_LOSSES)


def _module_of(algorithm: str, module: str = "") -> Any:
    package = f"rlssl.algorithms.{algorithm}"
    return importlib.import_module(f"{package}{module}")


def _algorithms() -> Iterator[dict[str, str]]:
    for name in sorted(ALGORITHMS):
        yield {"name": name, "note": _first_line(_module_of(name))}


def _presets(key: str) -> Iterator[dict[str, str]]:
    for algorithm in sorted(ALGORITHMS):
        for name in presets_of(algorithm, key):
            note = f"of algorithm {algorithm}: --{key.removesuffix('s')} {name}"
            yield {"name": name, "algorithm": algorithm, "note": note}


def _registered(registry: Registry[Any]) -> Iterator[dict[str, str]]:
    """Names in a registry, each with the first line of its docstring."""
    import rlssl.auxiliary
    import rlssl.networks  # noqa: F401

    load_plugins()
    for name in sorted(registry):
        yield {"name": name, "note": _first_line(registry[name])}


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


def _environments() -> Iterator[dict[str, str]]:
    from rlssl.environments.building import list_environments

    for row in list_environments():
        yield {"name": row["id"], "note": row["note"]}
    yield {"name": "any gymnasium id", "note": "CartPole-v1, 'module:Id', ..."}


def _experts() -> Iterator[dict[str, str]]:
    from rlssl.environments.experts import PREFIX

    load_plugins()
    for name in sorted(EXPERTS):
        try:
            note = _first_line(EXPERTS[name])
        except PluginError as error:
            note = str(error)
        yield {"name": f"{PREFIX}{name}", "note": note}


def _sweeps() -> Iterator[dict[str, str]]:
    from rlssl.experiment.spec.yaml_reader import list_sweeps

    for name in list_sweeps():
        yield {"name": name, "note": ""}


#: Kinds of names, and what lists them.
KINDS: Mapping[str, Callable[[], Iterator[dict[str, str]]]] = {
    "envs": _environments,
    "algorithms": _algorithms,
    "presets": lambda: _presets("presets"),
    "variants": lambda: _presets("variants"),
    "losses": lambda: _registered(AUXILIARY_LOSSES),
    "encoders": lambda: _registered(ENCODERS),
    "experts": _experts,
    "sweeps": _sweeps,
}
