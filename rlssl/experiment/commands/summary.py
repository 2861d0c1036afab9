"""Prints the summary at the end of a run: scores, and the paths of its files."""

import math
from pathlib import Path

import click
from rich.console import Console

from rlssl.analysis.results import Trial, read_sweep
from rlssl.analysis.table import FINAL_EPISODES, render_table, sweep_table, write_table_csv
from rlssl.experiment.checkpoints import checkpoint
from rlssl.run_files import CURVES_FILE, TABLE_FILE, TRIAL_FILE


def finish_training(folder: Path) -> None:
    """Prints the final score, and the folders of the trial and its newest checkpoint."""
    for trial in _finished_trials(folder):
        returns = trial.episodes.returns[-FINAL_EPISODES:]
        mean = float(returns.mean()) if len(returns) else math.nan
        env_steps = trial.results[-1]["env_steps"]
        click.echo(
            f"return {mean:.4g} over the last {len(returns)} episodes, {env_steps:,} env steps"
        )
    for marker in folder.glob(f"*/{TRIAL_FILE}"):
        click.echo(str(marker.parent))
        newest = checkpoint.newest_valid(marker.parent)
        if newest is not None:
            click.echo(str(newest.path))


def at_their_ends(folder: Path) -> bool:
    """Whether every trial of the run has reported its last result."""
    trials = _finished_trials(folder)
    started = len(list(folder.glob(f"*/{TRIAL_FILE}")))
    is_done = [bool(trial.results and trial.results[-1].get("done")) for trial in trials]
    return started > 0 and len(is_done) == started and all(is_done)


def finish_sweep(folder: Path) -> None:
    """Prints the table over seeds; writes the table and the learning curves into ``folder``."""
    trials = _finished_trials(folder)
    if not trials:
        click.echo("No trial has reported a result.")
        return
    rows = sweep_table(trials)
    Console().print(render_table(rows, title=folder.name))
    click.echo(str(write_table_csv(rows, folder / TABLE_FILE)))
    try:
        from rlssl.analysis.curves import plot_learning_curves

        click.echo(str(plot_learning_curves(trials, folder / CURVES_FILE, title=folder.name)))
    except ImportError:
        click.echo("To plot the learning curves: pip install 'rlssl[report]'")


def _finished_trials(folder: Path) -> list[Trial]:
    try:
        return read_sweep(folder)
    except ValueError:
        return []
