"""Batches, encoders and Learners for tests of auxiliary losses."""

import threading
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import MEAN_ACTION
from rlssl.auxiliary.metric.bisimulation import Bisimulation
from rlssl.auxiliary.windows import VALID
from rlssl.batches import EPISODE, STEP
from rlssl.networks import build_encoder
from rlssl.networks.action_encoding import encode_action
from rlssl.peers import Peers

N = 6
#: Kinds of transition models.
KINDS = ["smooth_l1", "deterministic", "probabilistic", "ensemble"]
VECTOR = gym.spaces.Box(-1, 1, (3,), np.float32)
SPACES: dict[str, gym.Space] = {
    "vector": VECTOR,
    "grid": gym.spaces.Box(0, 1, (5, 7, 7), np.uint8),
    "frames": gym.spaces.Box(0, 255, (4, 42, 42), np.uint8),
    "hwc": gym.spaces.Box(0, 255, (40, 40, 3), np.uint8),
}
ACTIONS: dict[str, gym.Space] = {
    "discrete": gym.spaces.Discrete(4),
    "multi_discrete": gym.spaces.MultiDiscrete([2, 3]),
    "continuous": gym.spaces.Box(-2, 2, (2,), np.float32),
}


class Scaled(nn.Module):
    """An encoder whose latents equal the observations, for numbers computed by hand."""

    def __init__(self, dim: int = 3) -> None:
        super().__init__()
        self.output_dim = dim
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, observation: Tensor) -> Tensor:
        return observation.float() * self.scale


def make(
    loss_class: Any,
    observation_space: gym.Space = VECTOR,
    action_space: gym.Space = ACTIONS["discrete"],
    encoder: Any = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    torch.manual_seed(seed)
    return loss_class(
        loss_class.Config(**{"hidden": 16, **options}),
        encoder=build_encoder(observation_space) if encoder is None else encoder,
        observation_space=observation_space,
        action_space=action_space,
    )


def sample(space: gym.Space, n: int = N) -> Any:
    """[n, ...] draws from a space, always the same; a Dict gives a dict."""
    space.seed(0)
    rows = [space.sample() for _ in range(n)]
    if isinstance(space, gym.spaces.Dict):
        return {key: torch.as_tensor(np.stack([row[key] for row in rows])) for key in space}
    return torch.as_tensor(np.stack(rows))


def transitions(
    observation_space: gym.Space = VECTOR, action_space: gym.Space = ACTIONS["discrete"], n: int = N
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for space in (observation_space, action_space):
        space.seed(0)
    columns = {
        Columns.OBS: observation_space,
        Columns.NEXT_OBS: observation_space,
        Columns.ACTIONS: action_space,
    }
    batch: dict[str, Any] = {
        key: torch.as_tensor(np.array([space.sample() for _ in range(n)], space.dtype))
        for key, space in columns.items()
    }
    batch[Columns.REWARDS] = torch.as_tensor(rng.normal(size=n).astype(np.float32))
    batch[Columns.TERMINATEDS] = torch.arange(n) % 3 == 2
    batch[MEAN_ACTION] = encode_action(batch[Columns.ACTIONS], action_space).flip(0)
    return batch


def dbc(*args: Any, **options: Any) -> Any:
    return make(Bisimulation, *args, **options)


def take(batch: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {key: value[rows] for key, value in batch.items()}


class Half(Peers):
    """One of two Learners in threads of this process; each has half of the batch."""

    size = 2

    def __init__(self, rank: int, total: int, shared: "Meeting") -> None:
        self.rank, self.total, self.shared = rank, total, shared

    def rows(self, num: int) -> tuple[int, int]:
        return self.rank * num, self.total

    def gather(self, rows: Tensor) -> Tensor:
        return torch.cat(self.shared.exchange(self.rank, rows.detach()))

    def gather_objects(self, value: Any) -> list[Any]:
        return self.shared.exchange(self.rank, value)


class Meeting:
    """Two threads exchange values here."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=20)
        self.given: list[Any] = [None, None]

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.given[rank] = value
        self.barrier.wait()
        both = list(self.given)
        self.barrier.wait()
        return both


def windows_of(obs: Tensor, valid: Tensor | None = None, **columns: Tensor) -> dict[str, Any]:
    """Windows [N, W, ...] of different episodes; all places are valid unless ``valid`` is given."""
    num, length = obs.shape[:2]
    whole = torch.ones(num, length, dtype=torch.bool)
    return {
        Columns.OBS: obs,
        VALID: whole if valid is None else valid,
        EPISODE: torch.arange(num)[:, None].expand(num, length),
        STEP: torch.arange(length).expand(num, length),
        **columns,
    }
