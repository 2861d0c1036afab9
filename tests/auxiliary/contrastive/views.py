"""Losses of two views, batches, and two Learners in threads, for tests."""

import threading
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.networks import build_encoder
from tests.auxiliary import latents
from tests.auxiliary.latents import VECTOR, Half, Meeting

#: Rows of a batch.
N = 8


def make(loss_class: Any, space: gym.Space = VECTOR, encoder: Any = None, **options: Any) -> Any:
    """A small loss with the weights of seed 0."""
    torch.manual_seed(0)
    return latents.make(
        loss_class,
        space,
        encoder=build_encoder(space) if encoder is None else encoder,
        **{"projection_dim": 5, **options},
    )


def observations(space: gym.Space = VECTOR, n: int = N) -> dict[str, Any]:
    """A batch with the column OBS."""
    return {Columns.OBS: latents.sample(space, n)}


def gradients_of(loss: Any, batch: dict[str, Any], *, share: float = 1.0) -> dict[str, Tensor]:
    """Gradients of the sum of all losses, divided by ``share``, by name of the parameter."""
    total = sum(value.sum() for value in loss.losses(batch).values()) / share
    named = dict([*loss.named_parameters(), *loss.encoder.named_parameters(prefix="encoder")])
    named = {name: p for name, p in named.items() if p.requires_grad}
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if gradient is None else gradient
        for (name, p), gradient in zip(named.items(), found, strict=True)
    }


def by_two_learners(make_loss: Any, batch: dict[str, Any], use: Any) -> list[Any]:
    """What ``use(loss, part of the batch)`` gives on each of two Learners in threads."""
    meeting, found = Meeting(), [None, None]
    half = len(batch[Columns.OBS]) // 2
    losses = [make_loss() for _ in range(2)]  # not in the threads: they seed torch

    def work(rank: int) -> None:
        losses[rank].peers = Half(rank, 2 * half, meeting)
        part = {key: value[rank * half : (rank + 1) * half] for key, value in batch.items()}
        found[rank] = use(losses[rank], part)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
