"""The command that records data sets."""

import sys
from typing import Any

import click

from rlssl.cli.completion import complete_recordable
from rlssl.cli.group import main
from rlssl.cli.options import JSON, PLUGIN, SET, STORAGE, TRUST, given_plugins, open_import_path
from rlssl.errors import SpecError


@main.command()
@click.argument("source", metavar="RUN|ENV", shell_complete=complete_recordable)
@click.option(
    "--policy",
    metavar="random|RUN|expert/NAME",
    help="Who acts.  [default: the policy of RUN]",
)
@click.option("--episodes", type=click.IntRange(min=1), help="Stop after this many episodes.")
@click.option("--env-steps", type=click.IntRange(min=1), help="Stop at the end of an episode.")
@click.option("--to", metavar="PATH", required=True, help="Folder of the data set.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--split",
    type=click.Choice(["train", "eval"]),
    default="train",
    show_default=True,
    help="train: what a learner sees. eval: the episodes of `rlssl evaluate --seed`.",
)
@click.option("--explore", is_flag=True, help="A trained policy samples its actions.")
@click.option(
    "--noise",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of the steps with a random action, in [0, 1].",
)
@click.option("--without-actions", is_flag=True, help="Record observations only, like a video.")
@click.option(
    "--max-episode-steps",
    type=click.IntRange(min=1),
    help="Truncate an episode after this many agent steps.  [default: 27000]",
)
@click.option(
    "--env-runners",
    "--runners",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that share the episodes; 0: this process. The data set stays the same.",
)
@SET
@JSON
@TRUST
@STORAGE
@PLUGIN
def collect(
    source: str,
    episodes: int | None,
    env_steps: int | None,
    split: str,
    explore: bool,
    noise: float,
    without_actions: bool,
    max_episode_steps: int | None,
    **options: Any,
) -> None:
    """Record episodes into a data set, or continue one.

    rlssl collect CartPole-v1 --policy expert/cartpole --episodes 100 --to data/cartpole
    """
    if (episodes is None) == (env_steps is None):
        raise SpecError("give --episodes N or --env-steps N, one of them.")
    click.echo(f"Preparing to record {source}.", err=True)
    open_import_path()
    from rlssl.evaluation import MAX_EPISODE_STEPS
    from rlssl.experiment.collection.collecting import Goal
    from rlssl.experiment.collection.recording import Choices
    from rlssl.experiment.commands.data.collect import collect as record

    choices = Choices(
        split="eval" if split == "eval" else "train",
        explore=explore,
        noise=noise,
        max_episode_steps=max_episode_steps or MAX_EPISODE_STEPS,
        actions=not without_actions,
    )
    goal = Goal(episodes, env_steps)
    sys.exit(record(source, goal=goal, choices=choices, plugins=given_plugins(), **options))
