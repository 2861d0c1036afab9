"""`rlssl collect`: records episodes into a data set."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rlssl import trust
from rlssl.analysis.table import format_number
from rlssl.environments.building import check_env_options, find_environment
from rlssl.environments.experts import is_expert
from rlssl.errors import DEFAULT_STORAGE, SpecError
from rlssl.experiment.collection.collecting import Goal, checked, collect_episodes
from rlssl.experiment.collection.recording import RANDOM, Choices, PolicySource, Recording
from rlssl.experiment.collection.statistics import Statistics
from rlssl.experiment.commands.data.writing import only_writer
from rlssl.experiment.commands.evaluate import require_trusted_environment
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.experiment.runs import single_policy_folder
from rlssl.experiment.spec.overrides import parse_override, set_path
from rlssl.policy import Policy
from rlssl.run_files import WEIGHTS_FILE
from rlssl.system.json_output import write_json


def collect(
    source: str,
    *,
    to: str,
    policy: str | None = None,
    goal: Goal,
    seed: int = 0,
    env_runners: int = 0,
    overrides: Sequence[str] = (),
    choices: Choices | None = None,
    plugins: Sequence[str] = (),
    as_json: bool = False,
    trusted: bool = False,
    storage: str = DEFAULT_STORAGE,
) -> int:
    """Records episodes into a data set, or continues one; prints what it has.

    The data set does not depend on ``env_runners``, nor on where a recording was interrupted.

    Args:
        source: The id of an environment, or a run, whose environment is taken.
        to: Folder of the data set.
        policy: ``random``, ``expert/NAME``, or a run; None: the policy of the run ``source``.
        goal: When it is enough.
        seed: Seed of all episodes.
        env_runners: Processes that share the episodes; 0: this process.
        overrides: Options of the environment, ``env.KEY=VALUE``.
        choices: How episodes are played; None: the defaults.
        plugins: Modules that the processes import.
        as_json: Whether to print JSON.
        trusted: Allows a policy of foreign origin to import modules; see `rlssl.trust`.
        storage: The folder in which names of runs are looked up.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no such environment, run or expert, if they do not fit together, or
            if the folder has another data set.
    """
    env, chosen = _source(source, policy, storage, trusted)
    env = _with_options(env, overrides)
    recording = Recording(env, chosen, seed, choices or Choices())
    spaces = checked(recording)

    def report(statistics: Statistics) -> None:
        click.echo(f"{_progress(statistics)}; until {goal}.", err=True)

    with only_writer(to):
        statistics = collect_episodes(
            recording, spaces, goal, to, num_runners=env_runners, plugins=plugins, report=report
        )
    if as_json:
        write_json({"dataset": str(to), **statistics.to_json()})
    else:
        click.echo(_summary(statistics))
        click.echo(to if "://" in to else str(Path(to).resolve()))
    return 0


def _source(
    source: str, policy: str | None, storage: str, trusted: bool
) -> tuple[dict[str, Any], PolicySource]:
    """The environment and the policy that the words mean."""
    if _is_environment(source):
        if policy is None:
            raise SpecError(
                f"{source} is an environment; add --policy random, --policy expert/NAME "
                "(rlssl list experts), or --policy RUN."
            )
        return {"id": source}, _policy(policy, storage, trusted)[1]
    trained_env, trained = _trained(source, storage, trusted)
    if policy is None:
        return trained_env, trained
    return trained_env, _policy(policy, storage, trusted)[1]


def _is_environment(name: str) -> bool:
    import gymnasium as gym

    if find_environment(name) is not None or name in gym.registry:
        return True
    # "module:Id": the module registers the id. Paths and URIs of runs have slashes before it.
    module, colon, _ = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in module.split("."))


def _policy(name: str, storage: str, trusted: bool) -> tuple[dict[str, Any], PolicySource]:
    if name == RANDOM or is_expert(name):
        return {}, PolicySource(name)
    return _trained(name, storage, trusted)


def _trained(run: str, storage: str, trusted: bool) -> tuple[dict[str, Any], PolicySource]:
    """The environment of a run's policy, and the policy."""
    located = locate(run, storage, having="policy")
    if trusted:
        trust.accept(sweep_folder(located))
    folder = single_policy_folder(located)
    policy = Policy.load(folder)
    env = policy.settings["env"]
    require_trusted_environment(folder, env)
    weights = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    source = PolicySource(sweep_folder(folder).name, folder, weights)
    if (success := policy.settings.get("success")) is not None:
        source = PolicySource(source.name, folder, weights, success)
    return dict(env), source


def _with_options(env: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    document: dict[str, Any] = {"env": dict(env)}
    for text in overrides:
        path, value = parse_override(text)
        if not path.startswith("env.") or path == "env.id":
            raise SpecError(
                f"--set {text}: rlssl collect takes options of the environment only; write "
                "env.KEY=VALUE."
            )
        document = set_path(document, path, value)
    check_env_options(document["env"])
    return dict(document["env"])


def _progress(statistics: Statistics) -> str:
    return (
        f"{statistics.episodes:,} episodes, {statistics.env_steps:,} env steps, return "
        f"{format_number(statistics.return_mean)}"
    )


def _summary(statistics: Statistics) -> str:
    rate = statistics.success_rate
    success = "" if math.isnan(rate) else f", success {rate:.3g}"
    length = statistics.agent_steps / max(statistics.episodes, 1)
    split = (
        "" if statistics.recorded == statistics.episodes else f" ({statistics.recorded:,} parts)"
    )
    return (
        f"return {format_number(statistics.return_mean)} "
        f"(std {format_number(statistics.return_std)}){success}, length {format_number(length)} "
        f"over {statistics.episodes:,} episodes{split}, {statistics.env_steps:,} env steps"
    )
