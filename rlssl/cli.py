"""The command line: parses options, calls ``rlssl.experiment``, turns errors into exit codes.

Commands import heavy modules themselves, so that ``rlssl --help`` is fast.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlssl import __version__
from rlssl.cli_options import (
    ADDRESS,
    JSON,
    JSON_OF_DRY_RUN,
    PLUGIN,
    SET,
    STORAGE,
    TRUST,
    WAIT_FOR_NODES,
    given_plugins,
    waiting,
)
from rlssl.errors import DEFAULT_STORAGE, ExitCode, ResourceError, SpecError
from rlssl.plugins import add_to_import_path, load_plugins, with_line
from rlssl.system.interrupts import signals_interrupt
from rlssl.system.json_output import write_json

if TYPE_CHECKING:
    from rlssl.experiment.spec.schema import Spec


class _Cli(click.Group):
    """Prints errors of the user or the cluster as one message, and exits with their code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals_interrupt():
                return super().invoke(ctx)
        except SpecError as error:
            code, message = ExitCode.WRONG_SPEC, str(error)
        except BrokenPipeError:
            raise  # the reader, such as `head`, has enough: click ends quietly
        except (ResourceError, OSError) as error:
            code, message = ExitCode.NO_RESOURCES, str(error)
        except KeyboardInterrupt:
            code, message = ExitCode.INTERRUPTED, "interrupted."
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            # The last line on the terminal, below the traceback, if a plug-in has raised it.
            if (located := with_line(words, error)) != words:
                error.add_note(f"error: {located}")
            raise
        click.echo(f"error: {message}", err=True)
        ctx.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of definition, not alphabetical


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlssl")
def main() -> None:
    """Self-supervised reinforcement learning on RLlib."""


def _open_import_path(spec: str | None = None) -> None:
    """Makes plug-ins beside the spec and in the current folder importable in every process.

    Then it imports the modules of ``--plugin``.
    """
    folders = [os.getcwd()]
    if spec is not None and Path(spec).is_file():
        folders.append(str(Path(spec).resolve().parent))
    add_to_import_path(folders)
    if names := given_plugins():
        load_plugins(names)


def _with_plugins(spec: "Spec") -> "Spec":
    """The spec, whose trials import the modules of ``--plugin`` too."""
    return spec.model_copy(
        update={"plugins": list(dict.fromkeys([*spec.plugins, *given_plugins()]))}
    )


def _require_assignment(text: str) -> None:
    if "=" not in text:
        raise SpecError(
            f"--stop {text} is not of the form KEY=VALUE; write --stop env_steps=100000."
        )


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
@click.argument("algorithm", metavar="ALGO")
@click.argument("env", metavar="ENV")
@click.option(
    "--aux",
    "auxiliary",
    multiple=True,
    metavar="NAME[:KEY=VALUE,...]",
    help="Add an auxiliary loss. Repeatable.",
)
@click.option("--preset", help="Named settings of the algorithm.")
@click.option("--variant", help="Variant of the algorithm.")
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
@click.option("--from", "warm_start", metavar="RUN", help="Start from the weights of a run.")
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
    trusted: bool,
    address: str | None,
    **flags: Any,
) -> None:
    """Train one policy: rlssl train ppo CartPole-v1 --aux icm."""
    # At once, because the imports take seconds.
    click.echo(f"Preparing {algorithm} on {env}.")
    _open_import_path()
    from rlssl.experiment.spec.loading import load_spec
    from rlssl.experiment.spec.overrides import parse_loss

    document = {key: value for key, value in flags.items() if value is not None}
    document |= {"algorithm": algorithm, "env": env}
    document["auxiliary"] = dict(parse_loss(text) for text in auxiliary)
    if env_runners is not None:
        document["resources"] = {"env_runners": env_runners}
    for text in stops:
        _require_assignment(text)
    if tuned:
        from rlssl.experiment.spec.overrides import merge
        from rlssl.experiment.spec.tuned import in_words, tuned_settings

        found = tuned_settings(algorithm, env)
        click.echo(f"Tuned settings: {in_words(found)}")
        document = merge(found, document)
    spec = _with_plugins(load_spec(document, [*(f"stop.{text}" for text in stops), *overrides]))
    # Imported only now: RLlib takes seconds to import, and a typo should be reported at once.
    from rlssl.experiment.commands.train import train as run

    sys.exit(run(spec, warm_start=warm_start, trusted=trusted, address=address, **waiting()))


@main.command()
@click.argument("source", metavar="NAME|FILE")
@SET
@click.option("--extend", metavar="RUN", help="Run what RUN does not have yet, into RUN.")
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
    _open_import_path(source)
    from rlssl.experiment.spec.loading import load_spec

    spec = _with_plugins(load_spec(source, overrides))
    if dry_run:
        from rlssl.experiment.commands.dry_run import dry_run as show

        sys.exit(show(spec, address=address, measure=measure, to_json=as_json))
    if extend is not None:
        from rlssl.experiment.commands.extend import extend as add_to

        sys.exit(add_to(spec, extend, address=address, trusted=trusted, **waiting()))
    from rlssl.experiment.commands.sweep import sweep as run

    sys.exit(run(spec, address=address, **waiting()))


@main.command()
@click.argument("run")
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
    _open_import_path()
    from rlssl.experiment.commands.resume import resume as continue_run

    for text in stops:
        _require_assignment(text)
    options: dict[str, Any] = {**({"stops": stops} if stops else {}), **waiting()}
    sys.exit(continue_run(run, storage=storage, address=address, trusted=trusted, **options))


@main.command()
@click.argument("run")
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
    _open_import_path()
    from rlssl.experiment.commands.confirm import confirm as confirm_search

    sys.exit(confirm_search(run, **options, **waiting()))


@main.command(context_settings={"allow_interspersed_args": False})
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--address", default="http://127.0.0.1:8265", show_default=True, help="Dashboard.")
@click.option("--run", is_flag=True, help="Also run the line.")
def submit(words: Sequence[str], address: str, run: bool) -> None:
    """Print the `ray job submit` line of a command: rlssl submit sweep my.yaml."""
    from rlssl.experiment.commands.submit import submit as submit_job

    sys.exit(submit_job(words, main.commands, address=address, run=run))


@main.command()
@STORAGE
@JSON
@PLUGIN
def runs(storage: str, as_json: bool) -> None:
    """List runs: their state, what they train, and how far they are."""
    _open_import_path()
    from rlssl.experiment.commands.runs import runs as list_runs

    sys.exit(list_runs(storage=storage, as_json=as_json))


@main.command()
@click.argument("run")
@STORAGE
@PLUGIN
def summary(run: str, storage: str) -> None:
    """Print the table of a run and draw its picture again."""
    click.echo(f"Reading {run}.", err=True)
    _open_import_path()
    from rlssl.experiment.commands.summary import summary as print_again

    sys.exit(print_again(run, storage=storage))


@main.command()
@click.argument("run")
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
    _open_import_path()
    from rlssl.experiment.commands.evaluate import evaluate as run_evaluation

    sys.exit(run_evaluation(run, **options))


@main.command()
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.")
@STORAGE
@TRUST
@PLUGIN
def export(run: str, **options: Any) -> None:
    """Write the policy as safetensors and JSON, for rlssl.load_policy."""
    click.echo(f"Preparing to export {run}.", err=True)
    _open_import_path()
    from rlssl.experiment.commands.export import export as write

    click.echo(write(run, **options).resolve())


@main.command()
@click.argument("source", metavar="SPEC")
@SET
@click.option("--preflight", is_flag=True, help="Also build, reset and step the environment.")
@PLUGIN
def inspect(source: str, overrides: Sequence[str], preflight: bool) -> None:
    """Show the resolved spec and its trials; start nothing."""
    click.echo(f"Reading {source}.", err=True)
    _open_import_path(source)
    import yaml

    from rlssl.environments.preflight import preflight as try_environment
    from rlssl.experiment.plan import idle_gpus_here
    from rlssl.experiment.spec.effective import effective_of
    from rlssl.experiment.spec.listing import points_in_words
    from rlssl.experiment.spec.loading import load_spec, resolved_dict
    from rlssl.run_files import EFFECTIVE

    spec = _with_plugins(load_spec(source, overrides))
    spaces = try_environment(spec.env) if preflight else None
    document = {**resolved_dict(spec), EFFECTIVE: effective_of(spec, spaces)}
    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip())
    if spaces is not None:
        click.echo(f"# observations: {spaces.observation_space}; actions: {spaces.action_space}")
    for line in (*points_in_words(spec), idle_gpus_here(spec)):
        if line:
            click.echo(f"# {line}")
    click.echo(f"# resources, disk and time: rlssl sweep {source} --dry-run")


@main.command("list")
@click.argument("words", nargs=-1, metavar="[KIND] [WORD]...")
@JSON
@PLUGIN
def list_names(words: Sequence[str], as_json: bool) -> None:
    """List names that contain each WORD: rlssl list presets rainbow.

    KIND is envs, algorithms, presets, variants, losses, encoders or sweeps; without KIND, all are
    searched.
    """
    _open_import_path()
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
@click.argument("source", metavar="[FILE]", default="matrix")
@SET
@STORAGE
@PLUGIN
def matrix(source: str, overrides: Sequence[str], storage: str) -> None:
    """Train every algorithm with every loss for a few updates; write a table."""
    click.echo(f"Preparing the matrix {source}.")
    _open_import_path(source)
    from rlssl.experiment.commands.matrix import matrix as run_matrix

    sys.exit(run_matrix(source, overrides, storage=storage))


@main.command()
@STORAGE
@JSON
@PLUGIN
def doctor(storage: str, as_json: bool) -> None:
    """Check this machine: versions, rendering, ROMs, disk, memory, Ray."""
    click.echo("Checking this machine; this takes up to 20 seconds.", err=True)
    _open_import_path()
    from rlssl.experiment.commands.doctor import doctor as examine

    sys.exit(examine(storage, as_json=as_json))


if __name__ == "__main__":
    main()
