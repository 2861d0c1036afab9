"""Commands about the results of runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlssl.cli.completion import complete_policy, complete_run
from rlssl.cli.group import main
from rlssl.cli.options import JSON, PLUGIN, STORAGE, TRUST, open_import_path


@main.command()
@STORAGE
@JSON
@PLUGIN
def runs(storage: str, as_json: bool) -> None:
    """List runs: their state, what they train, and how far they are."""
    open_import_path()
    from rlssl.experiment.commands.results.runs import runs as list_runs

    sys.exit(list_runs(storage=storage, as_json=as_json))


@main.command()
@click.argument("run", shell_complete=complete_run)
@STORAGE
@PLUGIN
def summary(run: str, storage: str) -> None:
    """Print the table of a run and draw its picture again."""
    click.echo(f"Reading {run}.", err=True)
    open_import_path()
    from rlssl.experiment.commands.summary import summary as print_again

    sys.exit(print_again(run, storage=storage))


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML file.  [default: report.html in the folder of the run]",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the figures as PNG and SVG.",
)
@click.option("--markdown", is_flag=True, help="Print the summary as Markdown, to paste.")
@JSON
@STORAGE
@PLUGIN
def report(runs: Sequence[str], **options: Any) -> None:
    """Write one HTML page about runs: scores, curves, settings.

    With --json, a page is written only if --out or --figures is given.
    """
    click.echo(f"Reading {', '.join(runs)}.", err=True)
    open_import_path()
    from rlssl.experiment.commands.results.report import report as write

    sys.exit(write(runs, **options))


@main.command()
@click.argument("first", metavar="A", shell_complete=complete_run)
@click.argument("second", metavar="B", shell_complete=complete_run)
@click.option("--metric", metavar="KEY", help="A key of the results, or area.  [default: return]")
@click.option("--mode", type=click.Choice(["max", "min"]), help="Which values are better.")
@click.option("--out", type=click.Path(path_type=Path), help="Save the curves: .png, .svg, .pdf.")
@STORAGE
@JSON
@PLUGIN
def compare(first: str, second: str, **options: Any) -> None:
    """Compare two runs, or points of runs: rlssl compare RUN:0 RUN:1."""
    open_import_path()
    from rlssl.experiment.commands.results.compare import compare_runs

    sys.exit(compare_runs(first, second, **options))


@main.command()
@click.argument("run", shell_complete=complete_policy)
@click.option("--episodes", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--explore", is_flag=True, help="Sample actions instead of taking the best action.")
@click.option(
    "--max-episode-steps",
    type=click.IntRange(min=1),
    help="Truncate an episode after this many agent steps.  [default: 27000]",
)
@click.option("--env-runners", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the first episode.")
@JSON
@click.option(
    "--probe", is_flag=True, help="Also predict the environment's state from the latents."
)
@TRUST
@STORAGE
@PLUGIN
def evaluate(run: str, **options: Any) -> None:
    """Evaluate the policy of a run on seeded episodes."""
    # To standard error, as the next ones: a script may read the result.
    click.echo(f"Preparing to evaluate {run}.", err=True)
    open_import_path()
    from rlssl.experiment.commands.evaluate import evaluate as run_evaluation

    sys.exit(run_evaluation(run, **options))


@main.command()
@click.argument("run", shell_complete=complete_policy)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.")
@STORAGE
@TRUST
@PLUGIN
def export(run: str, **options: Any) -> None:
    """Write the policy as safetensors and JSON, for rlssl.load_policy."""
    click.echo(f"Preparing to export {run}.", err=True)
    open_import_path()
    from rlssl.experiment.commands.export import export as write

    click.echo(write(run, **options).resolve())
