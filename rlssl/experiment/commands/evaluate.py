"""`rlssl evaluate`: seeded episodes with trained policies."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import ray

from rlssl import trust
from rlssl.environments.preflight import preflight
from rlssl.errors import DEFAULT_STORAGE
from rlssl.evaluation import (
    MAX_EPISODE_STEPS,
    EpisodeRecord,
    evaluate_policy,
    run_slot,
    slots,
    summarize,
)
from rlssl.experiment.cluster.connect import start_local
from rlssl.experiment.commands.probe import probe as probe_policy
from rlssl.experiment.runs import locate, policy_folders, sweep_folder
from rlssl.policy import Policy


def evaluate(
    run: str,
    *,
    episodes: int = 100,
    explore: bool = False,
    env_runners: int = 0,
    seed: int = 0,
    as_json: bool = False,
    trusted: bool = False,
    max_episode_steps: int | None = None,
    storage: str = DEFAULT_STORAGE,
    probe: bool = False,
) -> int:
    """Plays ``episodes`` episodes with the newest policy of each trial; prints the scores.

    Episode k runs with seed ``seed + k``; the list is the same whatever ``env_runners`` is.

    Args:
        run: A run's or trial's folder, a name below ``storage``, or an exported policy.
        episodes: How many for each policy.
        explore: Samples actions instead of taking the policy's mode.
        env_runners: Processes to share the work; 0: this one alone.
        seed: Of the first episode.
        as_json: Prints every episode.
        trusted: Lets a policy of foreign origin name modules to import; see `rlssl.trust`.
        max_episode_steps: Agent steps after which an episode is cut off; None: 27,000.
        storage: Where names are looked up.
        probe: Tells the environment's state from the encoder's latents, on the same episodes,
            played once more in this process; see `rlssl.experiment.commands.probe`.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no such run, policy or environment, or a foreign policy would
            have modules imported.
    """
    located = locate(run, storage)
    if trusted:
        trust.accept(sweep_folder(located))
    seeds = range(seed, seed + episodes)
    reports = []
    for folder in policy_folders(located):
        records = _play(folder, seeds, env_runners, explore, max_episode_steps or MAX_EPISODE_STEPS)
        reports.append({"policy": str(folder), **summarize(records), "seed": seed})
        if probe:
            limit = max_episode_steps or MAX_EPISODE_STEPS
            reports[-1]["probe"] = _probe(folder, seeds, explore, limit)
        if as_json:
            reports[-1]["episodes"] = [asdict(record) for record in records]
        else:
            _print(folder, reports[-1])
    if as_json:
        click.echo(json.dumps(reports, indent=1))
    return 0


def _play(
    folder: Path, seeds: Sequence[int], env_runners: int, explore: bool, max_steps: int
) -> list[EpisodeRecord]:
    policy = Policy.load(folder)
    env = policy.settings["env"]
    module, _, _ = env["id"].rpartition(":")
    if module and module not in sys.modules:
        trust.require(folder, f"its environment imports {module!r}")
    preflight(env)
    if env_runners == 0:
        return evaluate_policy(policy, env, seeds=seeds, explore=explore, max_steps=max_steps)
    start_local(env_runners)
    play = ray.remote(num_cpus=1)(_play_slots)
    dealt = [slots(seeds)[runner::env_runners] for runner in range(env_runners)]
    # What was refused or accepted here holds for the helpers, too.
    parts = ray.get([play.remote(str(folder), part, explore, max_steps) for part in dealt if part])
    by_seed = {record.seed: record for part in parts for record in part}
    return [by_seed[seed] for seed in seeds]


def _probe(folder: Path, seeds: Sequence[int], explore: bool, max_steps: int) -> dict[str, Any]:
    policy = Policy.load(folder)
    env = policy.settings["env"]
    return probe_policy(policy, env, seeds=seeds, explore=explore, max_steps=max_steps)


def _play_slots(
    folder: str, seeds: Sequence[Sequence[int]], explore: bool, max_steps: int
) -> list[EpisodeRecord]:
    trust.accept(Path(folder))
    policy = Policy.load(folder)
    env = policy.settings["env"]
    return [record for slot in seeds for record in run_slot(policy, env, slot, explore, max_steps)]


def _print(folder: Path, report: dict[str, Any]) -> None:
    click.echo(
        f"return {report['episode_return_mean']:.4g} "
        f"(deviation {report['episode_return_std']:.4g}), "
        f"success {report['success_rate']:.3g}, length {report['episode_len_mean']:.4g} "
        f"over {report['num_episodes']} episodes from seed {report['seed']}"
    )
    if "probe" in report:
        found = report["probe"]
        click.echo(
            f"probe: state (from {found['state']}) R2 {found['r2_mean']:.3f}, "
            f"rank correlation {found['rank_correlation']:.3f}, "
            f"effective rank {found['effective_rank']:.3g}, "
            f"feature variance {found['feature_variance']:.3g}, "
            f"mean latent distance {found['distance']:.3g} over {found['num_rows']} rows"
        )
    click.echo(str(folder))
