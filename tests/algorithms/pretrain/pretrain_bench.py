"""Pretraining without Ray's processes: a Learner and the replay buffer of a data set."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.algorithms.pretrain.pretrain import PretrainConfig
from tests.algorithms.bc.bc_bench import BCBench, random_data

VECTORS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
SPACES: dict[str, tuple[gym.Space, gym.Space]] = {
    "vectors": (VECTORS, gym.spaces.Discrete(4)),
    "dict": (
        gym.spaces.Dict({"at": VECTORS, "mode": gym.spaces.Discrete(3)}),
        gym.spaces.MultiDiscrete([2, 3]),
    ),
    "mode": (gym.spaces.Discrete(3), gym.spaces.Discrete(2)),
    "chw": (gym.spaces.Box(0, 255, (3, 40, 40), np.uint8), gym.spaces.Discrete(3)),
    "hwc": (
        gym.spaces.Box(0, 255, (40, 40, 3), np.uint8),
        gym.spaces.Box(-4.0, 4.0, (2,), np.float32),
    ),
}
#: Small convolutions for frames.
PIXELS = {"encoder": "curl", "encoder_config": {"num_layers": 2, "num_filters": 4}}


def small_pretrain(
    folder: Path,
    losses: dict[str, Any],
    *,
    spaces: str = "vectors",
    with_actions: bool = True,
    frame_stack: int | None = None,
    **training: Any,
) -> Any:
    """Pretraining on random episodes, with small networks and batches of 32 rows.

    Args:
        folder: Of the data set, which is written unless it is there.
        losses: {name: options}.
        spaces: A key of `SPACES`.
        with_actions: Whether the data set has actions.
        frame_stack: Observations in a stack.
        training: Settings of training.
    """
    observations, actions = SPACES[spaces]
    if not folder.exists():
        random_data(folder, observations, actions if with_actions else None, (12, 1, 20, 7))
    config: Any = PretrainConfig().data(path=str(folder)).auxiliary(**losses)
    model: dict[str, Any] = PIXELS if spaces in ("chw", "hwc") else {}
    if spaces == "vectors":
        model = {"encoder_config": {"hidden": [16]}}
    config.model(**model, frame_stack=frame_stack)
    return config.training(**{"train_batch_size_per_learner": 32, **training}).debugging(seed=0)


class PretrainBench(BCBench):
    """A Learner of pretraining and its batches."""

    def sample(self, steps: int = 64) -> list[SingleAgentEpisode]:
        """No episodes: nothing acts."""
        del steps
        return []

    def add(self, episodes: list[SingleAgentEpisode]) -> None:
        """Stores nothing: the replay buffer has the data set."""
        assert episodes == []

    def update(self, times: int = 1) -> None:  # type: ignore[override]
        """Updates on batches that are drawn one after the other."""
        for _ in range(times):
            self.learner.update_on(self.draw(), agent_steps=self.env_steps)
            self.env_steps += 1

    def state(self) -> dict[str, Any]:
        """A copy of everything in the module's state."""
        return {key: value.clone() for key, value in self.module.state_dict().items()}

    def moved_by_an_update(self) -> set[str]:
        """Keys of the state that one update changes."""
        before = self.state()
        self.update()
        after = self.module.state_dict()
        return {key for key, value in before.items() if not value.equal(after[key])}
