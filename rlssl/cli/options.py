"""The options that several commands share."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlssl.errors import DEFAULT_STORAGE, SpecError
from rlssl.plugins import add_to_import_path, load_plugins
from rlssl.system.json_output import only_json

if TYPE_CHECKING:
    from rlssl.experiment.spec.schema import Spec

#: Keys of a command's context: the modules of its option ``--plugin``, and whether it has the
#: option ``--wait-for-nodes``.
_PLUGINS, _WAITS = "rlssl.plugins", "rlssl.wait_for_nodes"


def _keep_stdout(ctx: click.Context, option: click.Parameter, wanted: bool) -> bool:
    """From here on, only JSON reaches standard output: plug-ins are imported after this."""
    if wanted:
        ctx.with_resource(only_json())
    return wanted


def _keep_plugins(ctx: click.Context, option: click.Parameter, names: Sequence[str]) -> None:
    ctx.meta[_PLUGINS] = names


def _keep_waiting(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted and ctx.params.get("address") is None:
        raise SpecError("--wait-for-nodes needs a cluster; add --address auto or HOST:PORT.")
    ctx.meta[_WAITS] = wanted


def given_plugins() -> list[str]:
    """The modules of ``--plugin`` in this command.

    Example:
        >>> given_plugins()  # outside of a command
        []
    """
    context = click.get_current_context(silent=True)
    return [] if context is None else list(context.meta.get(_PLUGINS, ()))


def waiting() -> dict[str, Any]:
    """The argument for ``--wait-for-nodes``, if this command has the option.

    Example:
        >>> waiting()  # outside of a command
        {}
    """
    context = click.get_current_context(silent=True)
    waits = context is not None and context.meta.get(_WAITS, False)
    return {"wait_for_nodes": True} if waits else {}


def open_import_path(spec: str | None = None) -> None:
    """Makes plug-ins beside the spec and in the current folder importable in every process.

    Then it imports the modules of ``--plugin``.
    """
    folders = [os.getcwd()]
    if spec is not None and Path(spec).is_file():
        folders.append(str(Path(spec).resolve().parent))
    add_to_import_path(folders)
    if names := given_plugins():
        load_plugins(names)


def with_plugins(spec: "Spec") -> "Spec":
    """The spec, whose trials import the modules of ``--plugin`` too."""
    return spec.model_copy(
        update={"plugins": list(dict.fromkeys([*spec.plugins, *given_plugins()]))}
    )


SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the spec by its dotted path: training.lr=1e-4. Repeatable.",
)
# Before other options, because `_keep_waiting` looks at it.
ADDRESS = click.option(
    "--address", is_eager=True, help="An existing Ray cluster: auto, or HOST:PORT."
)
WAIT_FOR_NODES = click.option(
    "--wait-for-nodes",
    is_flag=True,
    expose_value=False,
    callback=_keep_waiting,
    help="With --address: what does not fit now waits for nodes to join the cluster.",
)
STORAGE = click.option(
    "--storage", default=DEFAULT_STORAGE, show_default=True, help="Folder or URI of all results."
)
PLUGIN = click.option(
    "--plugin",
    multiple=True,
    metavar="MODULE",
    expose_value=False,
    callback=_keep_plugins,
    help="Import a module of yours that registers something. Repeatable.",
)
JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_keep_stdout,
    help="Print JSON, and everything else to standard error.",
)
JSON_OF_DRY_RUN = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_keep_stdout,
    help="With --dry-run: print JSON, and everything else to standard error.",
)
TRUST = click.option(
    "--trust",
    "trusted",
    is_flag=True,
    help="Load a run that you did not make here. Its pickles and plug-ins can execute any code.",
)


def require_assignment(text: str) -> None:
    """Refuses a value of ``--stop`` that is not of the form KEY=VALUE."""
    if "=" not in text:
        raise SpecError(
            f"--stop {text} is not of the form KEY=VALUE; write --stop env_steps=100000."
        )
