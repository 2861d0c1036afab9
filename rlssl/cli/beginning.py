"""Commands for a new experiment: its files, and the schema with which editors complete keys."""

import shlex
from pathlib import Path

import click

from rlssl.cli.group import main
from rlssl.cli.options import PLUGIN, open_import_path


@main.command()
@click.argument("folder", metavar="[FOLDER]", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a commented spec and a plug-in with tests: rlssl init my_experiment."""
    click.echo(f"Writing a new experiment to {folder}.")
    from rlssl.experiment.scaffold.writing import init as write

    for file in write(folder):
        click.echo(f"  {file}")
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    click.echo(f"Run it:   {enter}rlssl sweep sweep.yaml")
    click.echo(f"Test it:  {enter}python -m pytest")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: print]")
@PLUGIN
def schema(out: Path | None) -> None:
    """Print the JSON schema of spec files, with which editors complete and check keys."""
    click.echo("Reading the registries; this takes some seconds.", err=True)
    open_import_path()
    from rlssl.experiment.json_schema import spec_schema
    from rlssl.experiment.scaffold.writing import schema_text

    text = schema_text(spec_schema())
    if out is None:
        click.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    click.echo(out)
