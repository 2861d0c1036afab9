"""Completes the names of runs, environments, losses, algorithms and sweeps in a shell.

docs/shell_completion.md says how to switch completion on. The functions answer in well under a
second: they import neither torch nor Ray, read nothing from object stores, and import at most one
suite of environments.
"""

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from rlssl.errors import DEFAULT_STORAGE, PluginError


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """The names that begin with the word, sorted."""
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def complete_run(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The runs below the storage; paths, if the word is the beginning of a path."""
    from rlssl.run_files import RUN_FILE

    storage = str(ctx.params.get("storage") or DEFAULT_STORAGE)
    folders = [] if "://" in storage else Path(storage).glob(f"*/{RUN_FILE}")
    found = _matching((folder.parent.name for folder in folders), incomplete)
    return found or [CompletionItem(incomplete, type="dir")]


def complete_policy(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The runs, and the policies that come with rlssl."""
    from rlssl.zoo import zoo_names

    found = complete_run(ctx, param, incomplete)
    of_zoo = _matching(zoo_names(), incomplete)
    return [item for item in found if item.type == "plain"] + of_zoo or found


def complete_recordable(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The runs, the policies that come with rlssl, and the environments."""
    found = complete_policy(ctx, param, incomplete)
    plain = [item for item in found if item.type == "plain"]
    return plain + complete_environment(ctx, param, incomplete) or found


def complete_algorithm(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The algorithms."""
    from rlssl.registry import ALGORITHMS

    return _matching(ALGORITHMS, incomplete)


def complete_layer(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The presets or the variants of the algorithm, as the option is called."""
    from rlssl.experiment.names import presets_of
    from rlssl.registry import ALGORITHMS

    # Behind an option without its value, click has not assigned the arguments yet.
    words = [str(ctx.params.get("algorithm")), *ctx.args]
    algorithm = next((word for word in words if word in ALGORITHMS), None)
    return (
        [] if algorithm is None else _matching(presets_of(algorithm, f"{param.name}s"), incomplete)
    )


def complete_loss(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The losses."""
    from rlssl.experiment.names import loss_names

    _load_installed_plugins()
    return _matching(loss_names(), incomplete)


def complete_environment(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The environments; those of a suite once the word shows which suite is meant."""
    import gymnasium as gym

    from rlssl.registry import ENVIRONMENTS

    _load_installed_plugins()
    families = {name.removesuffix("*") for name in ENVIRONMENTS if name.endswith("*")}
    names = {name for name in ENVIRONMENTS if not name.endswith("*")} | set(gym.registry)
    begun = {family for family in families if family.startswith(incomplete)}
    meant = {family for family in families if incomplete.startswith(family)}
    if not meant and len(begun) == 1 and not _matching(names, incomplete):
        meant = begun
    for family in meant or ():
        names |= set(_members(f"{family}*"))
    return _matching(names | (begun - meant), incomplete)


def _members(family: str) -> list[str]:
    """The ids of a family; none if its suite is not installed."""
    from rlssl.errors import MissingExtraError
    from rlssl.registry import ENVIRONMENTS

    try:
        return ENVIRONMENTS[family].members()
    except MissingExtraError:
        return []


def _load_installed_plugins() -> None:
    """Imports the installed plug-ins; one that is broken completes nothing."""
    from rlssl.plugins import load_plugins

    try:
        load_plugins()
    except PluginError:
        return


def complete_sweep(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The sweeps that come with rlssl, and YAML files of the current folder."""
    from rlssl.experiment.spec.yaml_reader import list_sweeps

    files = [path.name for path in Path().iterdir() if path.suffix in (".yaml", ".yml")]
    found = _matching([*list_sweeps(), *files], incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def complete_kind(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The kinds of names that ``rlssl list`` lists."""
    from rlssl.experiment.names import KINDS

    return [] if ctx.params.get(str(param.name)) else _matching(KINDS, incomplete)
