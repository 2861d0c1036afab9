"""Videos that a training records of its own policy."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlssl.errors import ResourceError
from rlssl.policy import Policy
from rlssl.run_files import VIDEOS_FOLDER
from rlssl.video.encoder import SUFFIXES
from rlssl.video.recording import Player, record

logger = logging.getLogger(__name__)

#: Agent steps after which an episode in a training's video is cut off.
MAX_STEPS = 3_000


def record_in_training(
    policy: Policy, folder: Path, env_steps: int, options: Mapping[str, Any], *, explore: bool
) -> dict[str, Any]:
    """Records seeded evaluation episodes of a policy below the folder of its trial.

    A video that cannot be written, for example because the disk is full, does not end a training:
    the log and the result say so.

    Args:
        policy: The policy.
        folder: The trial's folder.
        env_steps: Env steps of the training so far; they name the file.
        options: ``evaluation.video`` of a spec: ``episodes``.
        explore: Whether the policy samples its actions.

    Returns:
        The section ``video`` of a result: ``env_steps``, ``seconds``, ``episode_return_mean``, and
        ``path`` below ``folder``; or ``env_steps``, ``seconds`` and ``failed``: 1.
    """
    begin, episodes = time.perf_counter(), int(options.get("episodes") or 1)
    path = folder / VIDEOS_FOLDER / f"{env_steps:012d}{SUFFIXES[0]}"
    player = Player(
        policy,
        policy.settings["env"],
        f"{env_steps:,} env steps",
        seeds=range(episodes),
        explore=explore,
        max_steps=MAX_STEPS,
    )
    result: dict[str, Any] = {"env_steps": env_steps}
    try:
        video = record([player], episodes, [path])
    except (OSError, ResourceError) as error:
        logger.warning("There is no video at %s env steps: %s", f"{env_steps:,}", error)
        result["failed"] = 1
    else:
        scores = [episode.score for episode in video.episodes[0]]
        result["episode_return_mean"] = float(np.mean(scores))
        result["path"] = str(path.relative_to(folder))
    return {**result, "seconds": time.perf_counter() - begin}
