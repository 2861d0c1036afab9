"""Prints the summary at the end of a run: scores, and the paths of its files."""

import math
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from rlssl.analysis.results import Run, Trial, read_run
from rlssl.analysis.table import (
    FINAL_EPISODES,
    describe_experiment,
    render_table,
    sweep_table,
    write_table_csv,
)
from rlssl.errors import ExitCode
from rlssl.experiment.checkpoints import checkpoint
from rlssl.run_files import CURVES_FILE, TABLE_FILE, TRIAL_FILE


def finish_training(folder: Path) -> int:
    """Prints the final score, and the folders of the trial and its newest checkpoint.

    Returns:
        The exit code: 1 if the results cannot be read.
    """
    run = _read(folder)
    for trial in run.trials if run is not None else []:
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
    return ExitCode.TRIAL_FAILED if run is None else ExitCode.OK


def at_their_ends(folder: Path) -> bool:
    """Whether every trial of the run has come to its end."""
    started = len(list(folder.glob(f"*/{TRIAL_FILE}")))
    try:
        trials = read_run(folder).trials
    except ValueError:
        return False
    return started > 0 and len(trials) == started and all(trial.is_complete for trial in trials)


def finish_sweep(folder: Path) -> int:
    """Prints the table over seeds; writes the table and the learning curves into ``folder``.

    Returns:
        The exit code: 1 if there is no result, or none can be read.
    """
    run = _read(folder)
    if run is None:
        return ExitCode.TRIAL_FAILED
    title = f"{folder.name}: {describe_experiment(run.trials)}"
    rows = sweep_table(run.trials, run.points)
    Console().print(render_table(rows, title=title))
    _name_incomplete_trials(run.trials)
    click.echo(str(write_table_csv(rows, folder / TABLE_FILE)))
    try:
        from rlssl.analysis.curves import plot_learning_curves

        click.echo(str(plot_learning_curves(run.trials, folder / CURVES_FILE, title=title)))
    except ImportError:
        click.echo("To plot the learning curves: pip install 'rlssl[report]'")
    return ExitCode.OK


def _read(folder: Path) -> Run | None:
    """The run; says what cannot be read. None if there is no result."""
    try:
        run = read_run(folder)
    except ValueError as error:
        click.echo(str(error), err=True)
        return None
    for problem in run.problems:
        click.echo(problem, err=True)
    return run


def _name_incomplete_trials(trials: Sequence[Trial]) -> None:
    for trial in trials:
        if not trial.is_complete:
            env_steps = trial.results[-1]["env_steps"] if trial.results else 0
            click.echo(f"{trial.status} at {env_steps:,} env steps: {trial.path}")
