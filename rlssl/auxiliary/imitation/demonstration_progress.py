"""A reward for passing the checkpoints of one demonstration, in their order."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor
from torch.nn import functional as F

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.imitation.demonstrations import (
    DemonstrationLoss,
    DemonstrationOptions,
    Demonstrations,
)
from rlssl.batches import device_of
from rlssl.errors import SpecError
from rlssl.networks.rl_encoder import NormalizedEncoder
from rlssl.networks.target_networks import EMACopy

#: Most unfinished episodes whose progress is remembered. Those of restarted environments never end.
MAX_OPEN_EPISODES = 10_000


class DemonstrationProgress(DemonstrationLoss):
    """Rewards a policy that follows a demonstration, which may be a video without actions.

    Checkpoints are the frames N, 2 N, ... of the demonstration. With the embedding phi, the RL
    encoder as it was when the run began, and the mean m of phi over the demonstration::

        phi_bar = (phi - m) / ||phi - m||
        reward  = 0.5 if phi_bar(s') . phi_bar(next checkpoint) > threshold, and else 0

    The next checkpoint is the one after the last that the episode has passed, so each pays once. A
    pretrained embedding makes sense of this: `rlssl pretrain` with temporal_distance. There is
    nothing to train.

    Source:
        Aytar et al. 2018, Playing hard exploration games by watching YouTube, arXiv:1805.11592,
        section 4. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig, DemonstrationOptions):
        """Options of the progress in a demonstration."""

        # Weight of the reward.
        intrinsic_coeff: float = 1.0
        # Which episode of the data set is followed, counted from 0.
        episode: int = 0
        # N, agent steps between two checkpoints; >= 1; published: 16 frames.
        spacing: int = 16
        # Smallest similarity that counts as reached; in (-1, 1). Published: 0.5, and 0.92 for an
        # embedding of images alone.
        threshold: float = 0.92

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("spacing")
            self._check_whole("episode", least=0)
            if not -1.0 < self.threshold < 1.0:
                raise ValueError(f"threshold must be in (-1, 1); got {self.threshold}.")

    config: Config

    reads = frozenset({Columns.NEXT_OBS})
    trains = "none"
    needs_actions = False

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        # Never updated: rewards must not change with the RL encoder.
        self.embedding = EMACopy(self.encoder)
        # Checkpoints [K, D] and the mean [D], once they are computed.
        self._checkpoints: tuple[Tensor, Tensor] | None = None
        # Statistics of observations, which all encoders share, change in training.
        self._is_fixed = not any(isinstance(m, NormalizedEncoder) for m in self.encoder.modules())
        self.register_load_state_dict_post_hook(_forget_checkpoints)
        # Episode id -> checkpoints that it has passed. Unfinished episodes, the one with the latest
        # rows last; kept only by exact restores.
        self._open_progress: dict[str, int] = {}
        self._progress: list[int] = []

    def check_demonstrations(self, demonstrations: Demonstrations) -> None:
        """Also checks that the episode exists and has a checkpoint.

        Raises:
            SpecError: Naming the option, its value and the fix.
        """
        super().check_demonstrations(demonstrations)
        lengths, config = demonstrations.lengths, self.config
        if config.episode >= len(lengths):
            raise SpecError(
                f"episode must be below {len(lengths)}, the number of episodes in "
                f"{config.demonstrations}; got {config.episode}."
            )
        if lengths[config.episode] < config.spacing:
            raise SpecError(
                f"spacing must be at most {lengths[config.episode]}, the steps of episode "
                f"{config.episode} of {config.demonstrations}; got {config.spacing}."
            )

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], 0.5 where a step reaches the episode's next checkpoint, else 0."""
        observations = batch[Columns.NEXT_OBS]
        device = device_of(observations)
        checkpoints, center = self._embedded(device)
        similarity = _unit(self.embedding(observations) - center) @ checkpoints.T
        hits = (similarity > self.config.threshold).cpu().numpy()
        pieces = _pieces(batch["chunks"], hits)
        passed: dict[tuple[int, int], list[bool]] = {}
        places = [
            (piece.chunk.first_step, rank, index, piece)
            for rank, theirs in enumerate(self.peers.gather_objects(pieces))
            for index, piece in enumerate(theirs)
        ]
        self._progress = []
        # Several Learners may hold chunks of one episode, so sort the chunks by their first step.
        for _, rank, index, piece in sorted(places, key=lambda place: place[0]):
            passed[rank, index] = self._follow(piece)
        while len(self._open_progress) > MAX_OPEN_EPISODES:
            del self._open_progress[next(iter(self._open_progress))]
        rows = [flag for index in range(len(pieces)) for flag in passed[self.peers.rank, index]]
        return 0.5 * torch.tensor(rows, dtype=torch.float32, device=device)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``passed_share``: of the checkpoints, mean over the episodes with rows in a batch."""
        del batch
        if self._checkpoints is None or not self._progress:
            return {}
        total = len(self._checkpoints[0])
        return {"passed_share": torch.tensor(self._progress).float().mean() / total}

    def _follow(self, piece: "_Piece") -> list[bool]:
        """Which steps of a chunk reach the episode's next checkpoint."""
        chunk = piece.chunk
        count = self._open_progress.pop(chunk.episode_id, 0)
        flags = []
        for hits in piece.hits:
            reached = count < len(hits) and bool(hits[count])
            flags.append(reached)
            count += reached
        if not chunk.is_done:
            self._open_progress[chunk.episode_id] = count
        self._progress.append(count)
        return flags

    def _embedded(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._checkpoints is None or not self._is_fixed:
            frames = self.demonstrations.observations(self.config.episode, device)
            latents: Tensor = self.embedding(frames)
            center = latents.mean(dim=0)
            chosen = latents[self.config.spacing :: self.config.spacing]
            self._checkpoints = _unit(chosen - center), center
        return self._checkpoints


class _Piece(NamedTuple):
    """A chunk, and at each step which checkpoints its next observation is like: [T, K] bool."""

    chunk: ChunkInfo
    hits: np.ndarray


def _pieces(chunks: list[ChunkInfo], hits: np.ndarray) -> list[_Piece]:
    ends = np.cumsum([chunk.num_rows for chunk in chunks])
    return [_Piece(*pair) for pair in zip(chunks, np.split(hits, ends[:-1]), strict=True)]


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _forget_checkpoints(loss: DemonstrationProgress, _: Any) -> None:
    """Other weights of the embedding give other checkpoints."""
    loss._checkpoints = None
