"""`rlssl summary`, also at the end of a run: its scores, and the paths of its files."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from rlssl.analysis.confirmation import (
    confirmed_rows,
    read_choice,
    render_confirmation,
    write_confirmation_csv,
)
from rlssl.analysis.faults import running_words, seeds_without_result, unreported_words
from rlssl.analysis.lineage import (
    plot_lineage,
    read_lineage,
    values_at_the_end,
    values_in_words,
)
from rlssl.analysis.objective import Objective
from rlssl.analysis.protocol import FINAL_EPISODES
from rlssl.analysis.results import Run, Trial, read_run
from rlssl.analysis.table import (
    VariantRow,
    describe_experiment,
    group_by_variant,
    render_table,
    sweep_table,
    write_table_csv,
)
from rlssl.clocks import ENV_STEPS, WORDS, clock_of, steps_of
from rlssl.errors import DEFAULT_STORAGE, ExitCode, ResourceError, SpecError
from rlssl.experiment import lock
from rlssl.experiment.checkpoints.manifest import newest_valid
from rlssl.experiment.fault_log import print_env_faults, print_faults
from rlssl.experiment.run_folders import locate, read_description, sweep_folder
from rlssl.run_files import (
    CONFIRM_TABLE_FILE,
    CURVES_FILE,
    LINEAGE_FILE,
    LINEAGE_PICTURE,
    REPORT_FILE,
    RUN_FILE,
    TABLE_FILE,
    TRIAL_FILE,
)
from rlssl.system.files import cannot_write
from rlssl.system.stores.places import place_of_folder

#: Of more exploits, only the last ones are printed.
MOST_EXPLOITS = 10
#: Of more seeds without a result, only the first ones are named.
MOST_MISSING = 10


def summary(run: str, *, storage: str = DEFAULT_STORAGE) -> int:
    """Prints the table of a run again, and draws its picture again; reads only its results.

    A run may still be running: then the summary is about what there is so far.

    Args:
        run: Name of a run, or any path that it has printed.
        storage: The folder in which names are looked up.

    Returns:
        The exit code: 1 if the results cannot be read.

    Raises:
        SpecError: If there is no such run.
    """
    folder = sweep_folder(locate(run, storage))
    if not (folder / RUN_FILE).is_file() and not list(folder.glob(f"*/{TRIAL_FILE}")):
        raise SpecError(f"{folder} is not the folder of a run: it has no {RUN_FILE}.")
    is_sweep = read_description(folder).get("is_sweep", True)
    return summarize(folder, is_sweep=bool(is_sweep), is_running=lock.running(folder))


def summarize(folder: Path, *, is_sweep: bool, is_running: bool = False) -> int:
    """Prints what a run prints at its end: a table for a sweep, a score for a training.

    Args:
        folder: The run's folder.
        is_sweep: Whether it is a sweep.
        is_running: Whether a process still runs it; then this is said.

    Returns:
        The exit code: 1 if the results cannot be read.
    """
    finish = finish_sweep if is_sweep else finish_training
    return finish(folder, is_running=is_running)


def finish_training(folder: Path, *, is_running: bool = False) -> int:
    """Prints the final score, and the folders of the trial and its newest checkpoint.

    Args:
        folder: The run's folder.
        is_running: As in `summarize`.

    Returns:
        The exit code: 1 if the results cannot be read.
    """
    run = _read(folder)
    for trial in run.trials if run is not None else []:
        returns = trial.episodes.returns[-FINAL_EPISODES:]
        last = trial.results[-1] if trial.results else {}
        score = _score_without_episodes(last)
        if len(returns):
            score = f"return {returns.mean():.4g} over the last {len(returns)} episodes"
        click.echo(f"{score}, {steps_of(last, 0):,} {WORDS[clock_of(last)]}")
        print_env_faults([trial])
    print_faults(folder, run.trials if run is not None else [])
    if run is not None:
        _name_what_is_missing(run, sweep_table(run.trials, run.points), is_running)
    for marker in folder.glob(f"*/{TRIAL_FILE}"):
        click.echo(str(marker.parent))
        newest = newest_valid(marker.parent)
        if newest is not None:
            click.echo(str(newest.path))
    return ExitCode.TRIAL_FAILED if run is None else sent(folder)


#: What a run without training episodes is measured by, the best known first -> the words for it.
_WITHOUT_EPISODES = {
    "evaluation/episode_return_mean": "return {:.4g} in the last evaluation",
    "holdout/loss": "loss {:.4g} on held-out episodes",
    "learners/default_policy/total_loss": "loss {:.4g}",
}


def _score_without_episodes(last: Mapping[str, Any]) -> str:
    """The score of a trial that has finished no training episode."""
    if clock_of(last) == ENV_STEPS:
        return "no finished episode"
    known = (words.format(last[key]) for key, words in _WITHOUT_EPISODES.items() if key in last)
    return next(known, "not evaluated")


def sent(folder: Path) -> int:
    """Sends what was written into a run on an object store; returns the exit code."""
    if place_of_folder(folder) is None:
        return ExitCode.OK
    # It imports Ray, which a summary of a plain folder does not need.
    from rlssl.experiment.remote.uploads import send_results

    return send_results(folder)


def at_their_ends(folder: Path) -> bool:
    """Whether every trial of the run has come to its end."""
    started = len(list(folder.glob(f"*/{TRIAL_FILE}")))
    try:
        trials = read_run(folder).trials
    except ValueError:
        return False
    return started > 0 and len(trials) == started and all(trial.is_complete for trial in trials)


def finish_sweep(folder: Path, *, is_running: bool = False) -> int:
    """Prints the table over seeds; writes the table and the learning curves into ``folder``.

    Args:
        folder: The run's folder.
        is_running: As in `summarize`.

    Returns:
        The exit code: 1 if no trial has a result that can be read.

    Raises:
        ResourceError: If the table cannot be written.
    """
    run = _read(folder)
    if run is None:
        return ExitCode.TRIAL_FAILED
    title = f"{folder.name}: {describe_experiment(run.trials)}"
    rows = sweep_table(run.trials, run.points)
    console = Console()
    console.print(render_table(rows, title=title, width=console.width))
    _name_incomplete_trials(run.trials)
    _name_what_is_missing(run, rows, is_running)
    print_env_faults(run.trials)
    print_faults(folder, run.trials)
    try:
        click.echo(str(write_table_csv(rows, folder / TABLE_FILE)))
    except OSError as error:
        raise ResourceError(
            f"{cannot_write(folder / TABLE_FILE, error)}; for a report elsewhere, use rlssl report "
            f"{folder} --out FILE"
        ) from error
    _show_confirmation(folder, run)
    _show_lineage(folder, run)
    try:
        from rlssl.analysis.curves import plot_learning_curves

        click.echo(str(plot_learning_curves(run.trials, folder / CURVES_FILE, title=title)))
    except ImportError:
        click.echo("To plot the learning curves: pip install 'rlssl[report]'")
    _write_report(folder, run, is_running)
    return sent(folder)


def _write_report(folder: Path, run: Run, is_running: bool) -> None:
    """Writes the report of a run into its folder; its path is the last line of a sweep."""
    # Its libraries take a second to import.
    from rlssl.analysis.report import report_of, write_report

    try:
        report = report_of([run], running=[folder] if is_running else [])
        click.echo(str(write_report(report, folder / REPORT_FILE).page))
    except (ModuleNotFoundError, OSError, ValueError) as error:  # the training has succeeded
        click.echo(f"No {REPORT_FILE}: {error}")


def _show_confirmation(folder: Path, run: Run) -> None:
    """Prints the scores in the search beside those of this run, if it confirms a search."""
    try:
        found = read_choice(folder)
    except ValueError as error:
        click.echo(str(error), err=True)
        return
    if found is None:
        return
    search, chosen = found
    rows = confirmed_rows(chosen, run.trials)
    Console().print(render_confirmation(rows, Objective.of(run.trials[0].spec), search))
    click.echo(str(write_confirmation_csv(rows, folder / CONFIRM_TABLE_FILE)))


def _show_lineage(folder: Path, run: Run) -> None:
    """Prints the exploits of a population and its last values, and draws them."""
    try:
        exploits = read_lineage(folder)
    except ValueError as error:
        click.echo(str(error), err=True)
        return
    if not exploits:
        return
    for one in exploits[-MOST_EXPLOITS:]:
        click.echo(one.words)
    for index, values in values_at_the_end(run, exploits).items():
        click.echo(f"member {index} at the end: {values_in_words(values)}")
    click.echo(str(folder / LINEAGE_FILE))
    with contextlib.suppress(ModuleNotFoundError):  # said for the learning curves
        click.echo(str(plot_lineage(run, exploits, folder / LINEAGE_PICTURE)))


def _read(folder: Path) -> Run | None:
    """The run, or None without a result. Prints which files cannot be read."""
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
            last = trial.results[-1] if trial.results else {}
            stand = f"{steps_of(last, 0):,} {WORDS[clock_of(last)]}"
            click.echo(f"{trial.status} at {stand}: {trial.path}")


def _name_what_is_missing(run: Run, rows: Sequence[VariantRow], is_running: bool) -> None:
    """Names the trials without a result, and says whether the run is still running."""
    started = group_by_variant(run.trials)
    missing, number = [], 0
    for row in rows:
        seeds = seeds_without_result(started.get(row.variant, []))
        missing += [f"seed {seed} of {row.variant}" for seed in seeds]
        number += len(seeds)
        if row.variant not in started:
            missing.append(f"all seeds of {row.variant}")
            number += row.num_expected or 0
    if missing:
        more = len(missing) - MOST_MISSING
        last = f"; and {more} more" if more > 0 else ""
        click.echo(f"without a result: {'; '.join(missing[:MOST_MISSING])}{last}")
    if words := unreported_words(run.path):
        click.echo(words)
    if is_running:
        click.echo(running_words(run.path.name, rows, number))
