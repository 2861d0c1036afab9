"""`rlssl record`: writes videos of seeded episodes of trained policies."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from rlssl import trust
from rlssl.analysis.table import format_number
from rlssl.errors import DEFAULT_STORAGE, SpecError
from rlssl.evaluation import MAX_EPISODE_STEPS
from rlssl.experiment.commands.evaluate import checked_policy
from rlssl.experiment.run_folders import locate, sweep_folder, trial_folder
from rlssl.experiment.runs import usable_policy_folders
from rlssl.run_files import TRIAL_FILE
from rlssl.system.json_output import write_json
from rlssl.video.encoder import SUFFIXES, check_suffix, require_encoder
from rlssl.video.recording import Player, Video
from rlssl.video.recording import record as record_players

#: The most policies side by side.
MOST_PANELS = 16

#: Letters of the name of a video that is made of the names of runs.
_LONGEST_NAME = 80


def record(
    runs: Sequence[str],
    *,
    episodes: int = 1,
    explore: bool = False,
    seed: int = 0,
    out: Path | None = None,
    gif: bool = False,
    as_json: bool = False,
    trusted: bool = False,
    max_episode_steps: int | None = None,
    storage: str = DEFAULT_STORAGE,
) -> int:
    """Records the newest policy of each trial, side by side; prints the returns and the file.

    A trial without a checkpoint is left out, and a line on standard error says why.

    Episode k of every policy runs with seed ``seed + k``, as in `rlssl evaluate`.

    Args:
        runs: As the run of `rlssl.experiment.commands.evaluate.evaluate`, one or several.
        episodes: Number of episodes of each policy, one after the other.
        explore: Whether to sample actions instead of taking the policy's mode.
        seed: Seed of the first episode.
        out: The file; None: named after the runs, in the current folder.
        gif: Whether to write the GIF of the same name, too.
        as_json: Whether to print every episode as JSON.
        trusted: Allows policies of foreign origin to import modules; see `rlssl.trust`.
        max_episode_steps: Agent steps after which an episode is truncated; None: 27,000.
        storage: The folder in which names are looked up.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no such run, if none of its trials has a policy, if an environment
            does not render, or if there are too many policies.
        MissingExtraError: If the extra ``video`` is not installed.
        ResourceError: If there is no ffmpeg, or it cannot write.
    """
    if out is not None:
        check_suffix(out)
    require_encoder()
    folders = _policies(runs, storage, trusted=trusted)
    titles = titles_of(folders)
    seeds = range(seed, seed + episodes)
    players = []
    for folder, title in zip(folders, titles, strict=True):
        policy = checked_policy(folder)
        limit = max_episode_steps or MAX_EPISODE_STEPS
        env = policy.settings["env"]
        players.append(Player(policy, env, title, seeds=seeds, explore=explore, max_steps=limit))
    first = out if out is not None else _named_after(folders, seed)
    paths = list(dict.fromkeys([first, *([first.with_suffix(".gif")] if gif else [])]))
    video = record_players(players, episodes, paths)
    if as_json:
        _print_json(folders, paths, video)
    else:
        _print(titles, players, paths)
    return 0


def _policies(runs: Sequence[str], storage: str, *, trusted: bool) -> list[Path]:
    folders: list[Path] = []
    for run in runs:
        located = locate(run, storage, having="policy")
        if trusted:
            trust.accept(sweep_folder(located))
        found, skipped = usable_policy_folders(located)
        folders += found
        for line in skipped:
            click.echo(f"Left out: {line}", err=True)
    if len(folders) > MOST_PANELS:
        trials = "\n".join(str(trial_folder(folder) or folder) for folder in folders)
        raise SpecError(
            f"there are {len(folders)} policies, and at most {MOST_PANELS} fit into a video; give "
            f"the folders of some of these trials:\n{trials}"
        )
    return folders


def titles_of(folders: Sequence[Path]) -> list[str]:
    """What tells policies apart: the run, the point and the seed, as far as they differ.

    Args:
        folders: From `usable_policy_folders`.
    """
    parts = []
    for folder in folders:
        trial, run = trial_folder(folder), sweep_folder(folder)
        checkpoint = folder.parent.name if trial is not None else ""
        parts.append((run.name, "" if trial is None else _trial_words(trial), checkpoint))
    titles = []
    for run_name, trial_name, checkpoint in parts:
        words = [run_name] if len({part[0] for part in parts}) > 1 or not trial_name else []
        words += [trial_name] if len({part[1] for part in parts}) > 1 else []
        words += [checkpoint] if len({part[2] for part in parts}) > 1 else []
        titles.append(", ".join(filter(None, words)) or run_name)
    return titles


def _trial_words(trial: Path) -> str:
    content = json.loads((trial / TRIAL_FILE).read_bytes())
    label = content.get("variant_label") if content["point"] else ""
    return ", ".join([*([label] if label else []), f"seed {content['seed']}"])


def _named_after(folders: Sequence[Path], seed: int) -> Path:
    names = dict.fromkeys(sweep_folder(folder).name for folder in folders)
    return Path(f"{'-and-'.join(names)[:_LONGEST_NAME]}-seed{seed}{SUFFIXES[0]}")


def _print(titles: Sequence[str], players: Sequence[Player], paths: Sequence[Path]) -> None:
    for title, player in zip(titles, players, strict=True):
        for episode in player.records:
            click.echo(
                f"{title}: return {format_number(episode.score)}, length {episode.length:,}, "
                f"seed {episode.seed}"
            )
    for path in paths:
        click.echo(str(path.resolve()))


def _print_json(folders: Sequence[Path], paths: Sequence[Path], video: Video) -> None:
    write_json(
        {
            "videos": [str(path.resolve()) for path in paths],
            "fps": video.fps,
            "num_frames": video.num_frames,
            "height": video.size[0],
            "width": video.size[1],
            "policies": [
                {"policy": str(folder), "episodes": [asdict(episode) for episode in episodes]}
                for folder, episodes in zip(folders, video.episodes, strict=True)
            ],
        }
    )
