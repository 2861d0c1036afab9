"""Commands that show names, specs and the machine; they start nothing."""

import sys
from collections.abc import Sequence

import click

from rlssl.cli.completion import complete_kind, complete_sweep
from rlssl.cli.group import main
from rlssl.cli.options import JSON, PLUGIN, SET, STORAGE, open_import_path, with_plugins
from rlssl.system.json_output import write_json


@main.command()
@click.argument("source", metavar="SPEC", shell_complete=complete_sweep)
@SET
@click.option("--preflight", is_flag=True, help="Also build, reset and step the environment.")
@PLUGIN
def inspect(source: str, overrides: Sequence[str], preflight: bool) -> None:
    """Show the resolved spec and its trials; start nothing."""
    click.echo(f"Reading {source}.", err=True)
    open_import_path(source)
    from rlssl.environments.env_check import preflight as try_environment
    from rlssl.experiment.plan import idle_gpus_here
    from rlssl.experiment.spec.effective import effective_of
    from rlssl.experiment.spec.listing import points_in_words
    from rlssl.experiment.spec.loading import load_spec, resolved_dict
    from rlssl.run_files import EFFECTIVE
    from rlssl.system.yaml_files import yaml_text

    spec = with_plugins(load_spec(source, overrides))
    spaces = try_environment(spec.env) if preflight else None
    document = {**resolved_dict(spec), EFFECTIVE: effective_of(spec, spaces)}
    click.echo(yaml_text(document).rstrip())
    if spaces is not None:
        click.echo(f"# observations: {spaces.observation_space}; actions: {spaces.action_space}")
    for line in (*points_in_words(spec), idle_gpus_here(spec)):
        if line:
            click.echo(f"# {line}")
    click.echo(f"# resources, disk and time: rlssl sweep {source} --dry-run")


@main.command("list")
@click.argument("words", nargs=-1, metavar="[KIND] [WORD]...", shell_complete=complete_kind)
@JSON
@PLUGIN
def list_names(words: Sequence[str], as_json: bool) -> None:
    """List names that contain each WORD: rlssl list presets rainbow.

    KIND is envs, algorithms, presets, variants, losses, encoders or sweeps; without KIND, all are
    searched.
    """
    open_import_path()
    from rlssl.experiment.names import KINDS
    from rlssl.experiment.names import list_names as find

    rows = find(*words)
    if as_json:
        write_json(rows)
        return
    is_one_kind = bool(words) and words[0] in KINDS
    for row in rows:
        kind = "" if is_one_kind else f"{row['kind']:<11} "
        click.echo(f"{kind}{row['name']:<28} {row['note']}".rstrip())


@main.command()
@STORAGE
@JSON
@PLUGIN
def doctor(storage: str, as_json: bool) -> None:
    """Check this machine: versions, rendering, ROMs, disk, memory, Ray."""
    click.echo("Checking this machine; this takes up to 20 seconds.", err=True)
    open_import_path()
    from rlssl.experiment.commands.doctor import doctor as examine

    sys.exit(examine(storage, as_json=as_json))
