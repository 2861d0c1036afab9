"""Commands that train from a data set alone: ``pretrain``."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from rlssl.cli.completion import complete_loss
from rlssl.cli.group import main
from rlssl.cli.options import (
    ADDRESS,
    PLUGIN,
    SET,
    WAIT_FOR_NODES,
    open_import_path,
    require_assignment,
    waiting,
    with_plugins,
)
from rlssl.errors import DEFAULT_STORAGE


@main.command()
@click.argument("data", metavar="DATA")
@click.option(
    "--aux",
    "auxiliary",
    multiple=True,
    shell_complete=complete_loss,
    metavar="NAME[:KEY=VALUE,...]",
    help="A loss that trains the encoder. Repeatable.",
)
@click.option("--encoder", help="Registered name of the encoder.  [default: by the observations]")
@click.option("--frame-stack", type=click.IntRange(min=1), help="Observations in a stack.")
@click.option(
    "--holdout",
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Share of the episodes that is measured, not trained on.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of this run.  [default: 0]")
@click.option(
    "--stop",
    "stops",
    multiple=True,
    metavar="KEY=VALUE",
    help="Stop at updates=N, time_total_s=S.  [default: updates=1e5]",
)
@SET
@click.option("--storage", help=f"Folder or URI of all results.  [default: {DEFAULT_STORAGE}]")
@click.option("--name", help="Name of the run: its folder below the storage.")
@ADDRESS
@WAIT_FOR_NODES
@PLUGIN
def pretrain(
    data: str,
    auxiliary: Sequence[str],
    encoder: str | None,
    frame_stack: int | None,
    holdout: float | None,
    stops: Sequence[str],
    overrides: Sequence[str],
    address: str | None,
    **flags: Any,
) -> None:
    """Train an encoder on a data set by losses alone: rlssl pretrain DATA --aux spr."""
    # At once, because the imports take seconds.
    click.echo(f"Preparing to pretrain on {data}.")
    open_import_path()
    from rlssl.experiment.spec.loading import load_spec
    from rlssl.experiment.spec.overrides import parse_loss

    document = {key: value for key, value in flags.items() if value is not None}
    document |= {"algorithm": "pretrain", "data": _given(path=data, holdout=holdout)}
    document["auxiliary"] = dict(parse_loss(text) for text in auxiliary)
    document["model"] = _given(encoder=encoder, frame_stack=frame_stack)
    for text in stops:
        require_assignment(text)
    spec = with_plugins(load_spec(document, [*(f"stop.{text}" for text in stops), *overrides]))
    # Imported only now: RLlib takes seconds to import, and a typo should be reported at once.
    from rlssl.experiment.commands.train import train as run

    sys.exit(run(spec, address=address, **waiting()))


def _given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
