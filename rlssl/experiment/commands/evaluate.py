"""`rlssl evaluate`: evaluates trained policies on seeded episodes."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import ray
from ray.exceptions import RayTaskError

from rlssl import trust
from rlssl.algorithms.pretrain.pretrain_module import NO_POLICY
from rlssl.environments.env_check import preflight
from rlssl.errors import DEFAULT_STORAGE, SpecError
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
from rlssl.experiment.run_folders import locate, sweep_folder
from rlssl.experiment.runs import usable_policy_folders
from rlssl.policy import Policy
from rlssl.ray_internals.errors import raised_by_worker
from rlssl.registry import WITHOUT_POLICY
from rlssl.system.json_output import write_json


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
    """Evaluates the newest policy of each trial; prints the scores.

    A trial without a valid checkpoint is left out, which stderr says.

    Episode k runs with seed ``seed + k``. The scores do not depend on ``env_runners``.

    Args:
        run: A name below ``storage``, or the folder of a run, a trial, a checkpoint or an export;
            or a policy that comes with rlssl, as ``zoo/ppo/CartPole-v1``.
        episodes: Number of episodes for each policy.
        explore: Whether to sample actions instead of taking the policy's mode.
        env_runners: Processes that share the episodes; 0 runs all in this process.
        seed: Seed of the first episode.
        as_json: Whether to print every episode as JSON.
        trusted: Allows a policy of foreign origin to import modules; see `rlssl.trust`.
        max_episode_steps: Agent steps after which an episode is truncated; None: 27,000.
        storage: The folder in which names are looked up.
        probe: Whether to predict the environment's state from the encoder's latents too. This runs
            the same episodes a second time in this process; see `rlssl.experiment.commands.probe`.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no such run, policy or environment, or if a policy of foreign origin
            needs to import modules and is not trusted.
    """
    located = locate(run, storage, having="policy")
    if trusted:
        trust.accept(sweep_folder(located))
    seeds = range(seed, seed + episodes)
    reports = []
    folders, skipped = usable_policy_folders(located)
    for line in skipped:
        click.echo(f"Left out: {line}", err=True)
    for folder in folders:
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
        write_json(reports)
    return 0


def _play(
    folder: Path, seeds: Sequence[int], env_runners: int, explore: bool, max_steps: int
) -> list[EpisodeRecord]:
    policy = checked_policy(folder)
    env = policy.settings["env"]
    if env_runners == 0:
        return evaluate_policy(policy, env, seeds=seeds, explore=explore, max_steps=max_steps)
    start_local(env_runners)
    play = ray.remote(num_cpus=1)(_play_slots)
    dealt = [slots(seeds)[runner::env_runners] for runner in range(env_runners)]
    # Each process accepts the folder as trusted: this process has checked it above.
    pending = [play.remote(str(folder), part, explore, max_steps) for part in dealt if part]
    try:
        parts = ray.get(pending)
    except RayTaskError as error:
        raise raised_by_worker(error) from error
    by_seed = {record.seed: record for part in parts for record in part}
    return [by_seed[seed] for seed in seeds]


def checked_policy(folder: Path) -> Policy:
    """Loads a policy, and tries its evaluation environment.

    Args:
        folder: From `usable_policy_folders`.

    Raises:
        SpecError: If the policy or its environment cannot be used, or if the environment needs to
            import a module and the run is not trusted; or it is an encoder without a policy.
    """
    policy = Policy.load(folder)
    if policy.settings["algorithm"] in WITHOUT_POLICY:
        raise SpecError(NO_POLICY)
    env = policy.settings["env"]
    require_trusted_environment(folder, env)
    preflight(env, vectorize="sync")  # evaluations step single environments
    return policy


def require_trusted_environment(folder: Path, env: Mapping[str, Any]) -> None:
    """Checks that a policy's environment imports nothing, or that the policy is trusted.

    Raises:
        SpecError: If the environment needs to import a module and the run is not trusted.
    """
    module, _, _ = env["id"].rpartition(":")
    if module and module not in sys.modules:
        trust.require(folder, f"its environment imports {module!r}")


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
    rate = report["success_rate"]
    success = "" if math.isnan(rate) else f"success {rate:.3g}, "
    count, std = report["num_episodes"], report["episode_return_std"]
    spread = "" if math.isnan(std) else f" (std {std:.4g})"
    click.echo(
        f"return {report['episode_return_mean']:.4g}{spread}, "
        f"{success}length {report['episode_len_mean']:.4g} "
        f"over {count} episode{'' if count == 1 else 's'} from seed {report['seed']}"
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
