"""Videos that a training records of its own policy."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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

    A video that cannot be made does not end a training, whatever the reason: a full disk, or an
    environment that fails while it renders. The log and the result say so.

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
    result: dict[str, Any] = {"env_steps": env_steps}
    try:
        player = Player(
            policy,
            policy.settings["env"],
            f"{env_steps:,} env steps",
            seeds=range(episodes),
            explore=explore,
            max_steps=MAX_STEPS,
        )
        video = record([player], episodes, [path])
    except Exception as error:  # an environment may raise anything while it renders
        logger.warning("There is no video at %s env steps: %r", f"{env_steps:,}", error)
        result["failed"] = 1
    else:
        scores = [episode.score for episode in video.episodes[0]]
        result["episode_return_mean"] = float(np.mean(scores))
        result["path"] = str(path.relative_to(folder))
    return {**result, "seconds": time.perf_counter() - begin}
