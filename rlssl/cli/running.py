"""Commands that train: ``train``, ``sweep``, ``resume``, ``confirm``, ``matrix``, ``submit``."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from rlssl.cli.completion import (
    complete_algorithm,
    complete_environment,
    complete_layer,
    complete_loss,
    complete_run,
    complete_sweep,
)
from rlssl.cli.group import main
from rlssl.cli.options import (
    ADDRESS,
    JSON_OF_DRY_RUN,
    PLUGIN,
    SET,
    STORAGE,
    TRUST,
    WAIT_FOR_NODES,
    open_import_path,
    require_assignment,
    waiting,
    with_plugins,
)
from rlssl.errors import DEFAULT_STORAGE, SpecError
from rlssl.system.json_output import readable_json


class _Train(click.Command):
    """Names in its help what can be trained."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the names that the registries hold. It imports neither torch nor Ray."""
        from rlssl.experiment.names import loss_names, presets_of
        from rlssl.registry import ALGORITHMS

        rows = [("algorithms", ", ".join(sorted(ALGORITHMS)))]
        for key in ("presets", "variants"):
            of_each = [(name, presets_of(name, key)) for name in sorted(ALGORITHMS)]
            words = "; ".join(f"{name}: {', '.join(names)}" for name, names in of_each if names)
            rows.append((key, words))
        rows.append(("losses", ", ".join(loss_names())))
        rows.append(("more", "rlssl list [KIND] [WORD]: also environments, and your plug-ins"))
        with formatter.section("Names"):
            formatter.write_dl(rows)


@main.command(cls=_Train)
@click.argument("algorithm", metavar="ALGO", shell_complete=complete_algorithm)
@click.argument("env", metavar="ENV", shell_complete=complete_environment)
@click.option(
    "--aux",
    "auxiliary",
    multiple=True,
    shell_complete=complete_loss,
    metavar="NAME[:KEY=VALUE,...]",
    help="Add an auxiliary loss. Repeatable.",
)
@click.option("--preset", shell_complete=complete_layer, help="Named settings of the algorithm.")
@click.option("--variant", shell_complete=complete_layer, help="Variant of the algorithm.")
@click.option("--tuned", is_flag=True, help="Use the settings that a sweep found for ALGO on ENV.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of this run.  [default: 0]")
@click.option(
    "--stop",
    "stops",
    multiple=True,
    metavar="KEY=VALUE",
    help="Stop at env_steps=N, episode_return_mean=R, ... Repeatable.  [default: env_steps=1e6]",
)
@SET
@click.option(
    "--env-runners", type=int, help="Remote processes that sample; 0: the trial samples itself."
)
@click.option("--storage", help=f"Folder or URI of all results.  [default: {DEFAULT_STORAGE}]")
@click.option("--name", help="Name of the run: its folder below the storage.")
@click.option(
    "--from",
    "warm_start",
    metavar="RUN",
    shell_complete=complete_run,
    help="Start from all weights of a run of the same algorithm, environment and losses.",
)
@click.option(
    "--encoder",
    metavar="RUN",
    shell_complete=complete_run,
    help="Start from the encoder of a run of any algorithm.",
)
@click.option(
    "--freeze", is_flag=True, help="Do not train the encoder; without --encoder: a random one."
)
@TRUST
@ADDRESS
@WAIT_FOR_NODES
@PLUGIN
def train(
    algorithm: str,
    env: str,
    auxiliary: Sequence[str],
    stops: Sequence[str],
    overrides: Sequence[str],
    tuned: bool,
    env_runners: int | None,
    warm_start: str | None,
    encoder: str | None,
    freeze: bool,
    trusted: bool,
    address: str | None,
    **flags: Any,
) -> None:
    """Train one policy: rlssl train ppo CartPole-v1 --aux icm."""
    # At once, because the imports take seconds.
    click.echo(f"Preparing {algorithm} on {env}.")
    if algorithm == "pretrain":
        raise SpecError(
            f"train pretrain {env}: pretrain learns from a data set, not in an environment; use "
            "rlssl pretrain DATA --aux inverse_dynamics, with the folder of a data set."
        )
    open_import_path()
    from rlssl.experiment.spec.loading import load_spec
    from rlssl.experiment.spec.overrides import parse_loss

    document = {key: value for key, value in flags.items() if value is not None}
    document |= {"algorithm": algorithm, "env": env}
    document["auxiliary"] = dict(parse_loss(text) for text in auxiliary)
    overrides = [*overrides, *_start(warm_start, encoder, overrides, freeze=freeze)]
    if env_runners is not None:
        document["resources"] = {"env_runners": env_runners}
    for text in stops:
        require_assignment(text)
    if tuned:
        from rlssl.experiment.spec.overrides import merge
        from rlssl.experiment.spec.tuned import in_words, tuned_settings

        found = tuned_settings(algorithm, env)
        click.echo(f"Tuned settings: {in_words(found)}")
        document = merge(found, document)
    spec = with_plugins(load_spec(document, [*(f"stop.{text}" for text in stops), *overrides]))
    # Imported only now: RLlib takes seconds to import, and a typo should be reported at once.
    from rlssl.experiment.commands.train import train as run

    sys.exit(run(spec, trusted=trusted, address=address, **waiting()))


def _start(
    warm_start: str | None, encoder: str | None, overrides: Sequence[str], *, freeze: bool
) -> list[str]:
    """--from, --encoder and --freeze as overrides: so ``--set model={...}`` does not drop them."""
    if warm_start is not None and encoder is not None:
        raise SpecError("--from takes all weights, --encoder the encoder alone; give one of them.")
    found = ["model.freeze=true"] if freeze else []
    run = warm_start if encoder is None else encoder
    if run is not None:
        found.append(f"model.from={readable_json(run)}")
    if warm_start is not None and not any(one.startswith("model.load=") for one in overrides):
        found.append("model.load=everything")
    return found


@main.command()
@click.argument("source", metavar="NAME|FILE", shell_complete=complete_sweep)
@SET
@click.option(
    "--extend",
    metavar="RUN",
    shell_complete=complete_run,
    help="Run what RUN does not have yet, into RUN.",
)
@click.option("--dry-run", is_flag=True, help="Show trials, resources, disk; start nothing.")
@click.option("--measure", is_flag=True, help="With --dry-run: train a trial for 20 seconds.")
@TRUST
@ADDRESS
@WAIT_FOR_NODES
@JSON_OF_DRY_RUN
@PLUGIN
def sweep(
    source: str,
    overrides: Sequence[str],
    extend: str | None,
    dry_run: bool,
    measure: bool,
    trusted: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Run a sweep from a file or by its name: rlssl sweep quickstart."""
    if (measure or as_json) and not dry_run:
        raise SpecError("--measure and --json are for --dry-run; add --dry-run, or leave them out.")
    if dry_run and waiting():
        raise SpecError("--dry-run shows what fits now; leave out --wait-for-nodes.")
    if dry_run and extend is not None:
        raise SpecError("--dry-run shows a new sweep; leave out --extend.")
    click.echo(f"Preparing the sweep {source}.")
    open_import_path(source)
    from rlssl.experiment.spec.loading import load_spec

    spec = with_plugins(load_spec(source, overrides))
    if dry_run:
        from rlssl.experiment.commands.dry_run import dry_run as show

        sys.exit(show(spec, address=address, measure=measure, to_json=as_json, trusted=trusted))
    if extend is not None:
        from rlssl.experiment.commands.extend import extend as add_to

        sys.exit(add_to(spec, extend, address=address, trusted=trusted, **waiting()))
    from rlssl.experiment.commands.sweep import sweep as run

    sys.exit(run(spec, address=address, trusted=trusted, **waiting()))


@main.command()
@click.argument("run", shell_complete=complete_run)
@click.option(
    "--stop",
    "stops",
    multiple=True,
    metavar="KEY=VALUE",
    help="Train further, also finished trials: env_steps=N. Repeatable.",
)
@STORAGE
@TRUST
@ADDRESS
@WAIT_FOR_NODES
@PLUGIN
def resume(
    run: str, stops: Sequence[str], storage: str, trusted: bool, address: str | None
) -> None:
    """Continue an interrupted run or sweep."""
    click.echo(f"Preparing to continue {run}.")
    open_import_path()
    from rlssl.experiment.commands.resume import resume as continue_run

    for text in stops:
        require_assignment(text)
    options: dict[str, Any] = {**({"stops": stops} if stops else {}), **waiting()}
    sys.exit(continue_run(run, storage=storage, address=address, trusted=trusted, **options))


@main.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Points.")
@click.option(
    "--seeds",
    "num_seeds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Seeds that the search did not see.",
)
@STORAGE
@TRUST
@ADDRESS
@WAIT_FOR_NODES
@PLUGIN
def confirm(run: str, **options: Any) -> None:
    """Run the best points of a search again, with new seeds."""
    click.echo(f"Preparing to confirm {run}.")
    open_import_path()
    from rlssl.experiment.commands.confirm import confirm as confirm_search

    sys.exit(confirm_search(run, **options, **waiting()))


@main.command()
@click.argument("source", metavar="[FILE]", default="matrix", shell_complete=complete_sweep)
@SET
@STORAGE
@PLUGIN
def matrix(source: str, overrides: Sequence[str], storage: str) -> None:
    """Train every algorithm with every loss for a few updates; write a table."""
    click.echo(f"Preparing the matrix {source}.")
    open_import_path(source)
    from rlssl.experiment.commands.matrix import matrix as run_matrix

    sys.exit(run_matrix(source, overrides, storage=storage))


@main.command(context_settings={"allow_interspersed_args": False})
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--address", default="http://127.0.0.1:8265", show_default=True, help="Dashboard.")
@click.option("--run", is_flag=True, help="Also run the line.")
def submit(words: Sequence[str], address: str, run: bool) -> None:
    """Print the `ray job submit` line of a command: rlssl submit sweep my.yaml."""
    from rlssl.experiment.commands.submit import submit as submit_job

    sys.exit(submit_job(words, main.commands, address=address, run=run))
