"""Commands that show a run: while it trains, and its policies in episodes."""

import sys
from typing import Any

import click

from rlssl.cli.group import main
from rlssl.cli.options import JSON, STORAGE


@main.command()
@click.argument("run")
@click.option("--once", is_flag=True, help="Print the present state, and end.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@JSON
@STORAGE
def watch(run: str, **options: Any) -> None:
    """Show a running sweep: every trial's progress, return, speed and faults."""
    click.echo(f"Reading {run}.", err=True)
    from rlssl.experiment.commands.watch import watch as show

    sys.exit(show(run, **options))
