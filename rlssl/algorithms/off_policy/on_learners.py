"""Functions that the Algorithm calls on its Learners; each returns the Learner's rank first."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import nn

from rlssl.auxiliary.needs import Needs
from rlssl.networks.layers.vector_normalizer import Moments


def needs_of(learner: Any) -> tuple[int, Needs]:
    """What the losses of a Learner read."""
    return learner.peers.rank, learner.needs


def prepare_of(learner: Any) -> tuple[int, Callable[[Any], Any]]:
    """How a local Learner wants batches."""
    return 0, learner.transfers.prepare


def update_on(learner: Any, batch: Any, agent_steps: int) -> tuple[int, Any]:
    """One update of a local Learner; its TD errors."""
    return 0, learner.update_on(batch, agent_steps=agent_steps)


def update_on_part(learner: Any, batch: Any, agent_steps: int) -> tuple[int, np.ndarray | None]:
    """One update of a remote Learner, on its part of a batch; its TD errors."""
    errors = learner.update_on_part(ray.get(batch), agent_steps=agent_steps)
    return learner.peers.rank, None if errors is None else np.asarray(errors)


def intrinsic_rewards(learner: Any, parts: list[list[Any]]) -> tuple[int, list[np.ndarray]]:
    """The intrinsic rewards of a Learner's part of new chunks."""
    return learner.peers.rank, learner.intrinsic_rewards(parts[learner.peers.rank])


def normalize_by(learner: Any, moments: Sequence[Moments]) -> tuple[int, None]:
    """Adds observations to the statistics of a Learner's normalizer."""
    learner.normalize_by(moments)
    return learner.peers.rank, None


def report(learner: Any) -> tuple[int, Any]:
    """The metrics of a Learner since the last report."""
    return learner.peers.rank, learner.report()


@torch.no_grad()
def copy_weights(learner: Any, runner: Any) -> tuple[int, None]:
    """Copies weights within one process, which takes a tenth of the time of a state dict."""
    source: nn.Module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    parameters, buffers = dict(source.named_parameters()), dict(source.named_buffers())
    copies, of_buffers = dict(runner.module.named_parameters()), dict(runner.module.named_buffers())
    found = {name: parameters[name].data for name in copies}
    found |= {name: buffers[name] for name in of_buffers}
    found = learner.transfers.weights(found)
    torch._foreach_copy_([copy.data for copy in copies.values()], [found[name] for name in copies])
    for name, buffer in of_buffers.items():
        buffer.copy_(found[name])
    runner._weights_seq_no = learner._weights_seq_no
    return 0, None


def held_out_losses(learner: Any, batch: Any) -> tuple[int, dict[str, float]]:
    """The losses of a Learner on rows that are not trained on."""
    return learner.peers.rank, learner.held_out_losses(batch)
