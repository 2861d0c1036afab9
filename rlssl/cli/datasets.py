"""Commands about data sets of episodes."""

import sys

import click
from click.shell_completion import CompletionItem

from rlssl.cli.group import main
from rlssl.cli.options import JSON, STORAGE, TRUST, open_import_path


def _complete_path(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Folders: of a data set, or on the way to one."""
    return [CompletionItem(incomplete, type="dir")]


_PATH = click.argument("path", metavar="PATH", shell_complete=_complete_path)


@main.group()
def data() -> None:
    """Show, check, label, import and export data sets of episodes."""


@data.command()
@_PATH
@JSON
def info(path: str, as_json: bool) -> None:
    """Show what a data set holds: spaces, environment, policy, episodes, returns."""
    from rlssl.experiment.commands.data.datasets import info as show

    sys.exit(show(path, as_json=as_json))


@data.command()
@_PATH
@JSON
def check(path: str, as_json: bool) -> None:
    """Read all of a data set; exit code 1 if rows are damaged or wrong."""
    from rlssl.experiment.commands.data.datasets import check as read_all

    sys.exit(read_all(path, as_json=as_json))


@data.command()
@_PATH
@click.option("--by", metavar="RUN", required=True, help="A run with --aux inverse_dynamics.")
@click.option("--to", metavar="PATH", required=True, help="Folder of the labeled data set.")
@JSON
@TRUST
@STORAGE
def label(path: str, by: str, to: str, as_json: bool, trusted: bool, storage: str) -> None:
    """Copy a data set with the actions that an inverse model predicts.

    rlssl data label videos --by inverse --to labeled
    """
    click.echo(f"Reading {by}.", err=True)
    open_import_path()
    from rlssl.experiment.commands.data.label import label as copy

    sys.exit(copy(path, by=by, to=to, as_json=as_json, trusted=trusted, storage=storage))


@data.command("import")
@click.argument("source", metavar="minari:ID|FOLDER")
@_PATH
def import_data(source: str, path: str) -> None:
    """Copy a data set of Minari to PATH."""
    click.echo(f"Reading {source}.", err=True)
    from rlssl.experiment.commands.data.datasets import import_data as copy

    sys.exit(copy(source, path))


@data.command("export")
@_PATH
@click.option("--minari", "dataset_id", metavar="ID", required=True, help="NAMESPACE/NAME-v0.")
def export_data(path: str, dataset_id: str) -> None:
    """Copy a data set into Minari's own folder, without loss."""
    click.echo(f"Reading {path}.", err=True)
    from rlssl.experiment.commands.data.datasets import export_data as copy

    sys.exit(copy(path, dataset_id))
