"""Commands that show a run: while it trains, and its policies in episodes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlssl.cli.completion import complete_run
from rlssl.cli.group import main
from rlssl.cli.options import JSON, PLUGIN, STORAGE, TRUST, open_import_path


@main.command()
@click.argument("run", shell_complete=complete_run)
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
    from rlssl.experiment.commands.watching.watch import watch as show

    sys.exit(show(run, **options))


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run)
@click.option("--episodes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--explore", is_flag=True, help="Sample actions instead of taking the best action.")
@click.option(
    "--max-episode-steps",
    type=click.IntRange(min=1),
    help="Truncate an episode after this many agent steps.  [default: 27000]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the first episode.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file, .mp4 or .gif.  [default: RUN-seedN.mp4]",
)
@click.option("--gif", is_flag=True, help="Write a GIF of the same name, too.")
@JSON
@TRUST
@STORAGE
@PLUGIN
def record(runs: Sequence[str], **options: Any) -> None:
    """Write a video of episodes of a run's policy; of several, side by side."""
    click.echo(f"Preparing to record {', '.join(runs)}.", err=True)
    open_import_path()
    from rlssl.experiment.commands.watching.record import record as write

    sys.exit(write(runs, **options))
