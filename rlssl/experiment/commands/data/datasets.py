"""`rlssl data`: show, check, import and export data sets of episodes."""

from dataclasses import asdict
from typing import Any

import click

from rlssl.data import EpisodeDataset
from rlssl.data.checking import problems_of, summary_of
from rlssl.data.minari_exchange import export_minari, import_minari
from rlssl.errors import ExitCode
from rlssl.experiment.commands.data.writing import copying, nothing_left
from rlssl.system.json_output import readable_json, write_json


def info(path: str, *, as_json: bool) -> int:
    """Prints what a data set holds; returns the exit code.

    Raises:
        SpecError: If there is no data set.
    """
    dataset = EpisodeDataset(path)
    figures = summary_of(dataset)
    if as_json:
        write_json(figures)
    else:
        _print(dataset, figures)
    return ExitCode.OK


def _print(dataset: EpisodeDataset, figures: dict[str, Any]) -> None:
    description = dataset.description
    size = figures["bytes"] / 1e6
    rows = figures["rows"]
    files = "file" if figures["shards"] == 1 else "files"
    lines = {
        "episodes": f"{figures['episodes']:,} in {figures['shards']:,} {files}"
        + ("" if figures["complete"] else "; the recorder has not ended by itself"),
        "steps": f"{figures['steps']:,}",
        "size": f"{size:,.1f} MB, {figures['bytes'] / rows:,.0f} bytes a row" if rows else "0 MB",
        # Spaces with many bounds have several lines.
        "observations": " ".join(str(description.observation_space).split()),
        "actions": " ".join(str(description.action_space or "unknown").split()),
        "environment": _in_words(figures["env"]),
        "policy": _in_words(figures["policy"]),
        "seed": _in_words(figures["seed"]),
    }
    if returns := figures["returns"]:
        low, mean, high = (returns[name] for name in ("min", "mean", "max"))
        lines["returns"] = f"mean {mean:,.4g}, from {low:,.4g} to {high:,.4g}"
        low, mean, high = (figures["lengths"][name] for name in ("min", "mean", "max"))
        lines["lengths"] = f"mean {mean:,.4g}, from {low:,} to {high:,} steps"
        lines["ends"] = f"{figures['terminated']:,} terminated, {figures['truncated']:,} truncated"
    for name, line in lines.items():
        click.echo(f"{name:<13} {line}")


def _in_words(value: Any) -> str:
    if value is None:
        return "unknown"
    return value if isinstance(value, str) else readable_json(value)


def check(path: str, *, as_json: bool) -> int:
    """Reads all of a data set and prints what is wrong; returns the exit code.

    Raises:
        SpecError: If there is no data set.
    """
    dataset = EpisodeDataset(path)
    found = list(problems_of(dataset))
    if as_json:
        write_json([asdict(problem) for problem in found])
    else:
        for problem in found:
            click.echo(problem.message)
        verdict = "no problem" if not found else f"problems: {len(found):,}"
        click.echo(f"{len(dataset):,} episodes in {dataset.num_rows:,} rows: {verdict}.")
    return ExitCode.TRIAL_FAILED if found else ExitCode.OK


def import_data(source: str, path: str) -> int:
    """Copies a data set of Minari to ``path``; returns the exit code.

    Raises:
        SpecError: See `rlssl.data.minari_exchange.import_minari`.
    """
    with copying(path):
        dataset = import_minari(source, path)
    if dataset.description.notes.get("jpeg"):
        click.echo("Minari has kept its frames as JPEG: they are not the recorded ones.", err=True)
    click.echo(f"Wrote {len(dataset):,} episodes, {dataset.num_steps:,} steps, to {path}.")
    return ExitCode.OK


def export_data(path: str, dataset_id: str) -> int:
    """Copies a data set into Minari's own folder; returns the exit code.

    Raises:
        SpecError: See `rlssl.data.minari_exchange.export_minari`.
    """
    with nothing_left():
        folder = export_minari(EpisodeDataset(path), dataset_id)
    click.echo(f"Wrote {dataset_id} to {folder}.")
    return ExitCode.OK
