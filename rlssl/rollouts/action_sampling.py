"""Samples actions and log-probabilities from a policy's outputs, without distribution objects.

It supports the action distributions of most policies. The actions have the same distribution as
those of RLlib's classes, but come from other random numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
)
from torch import Tensor

from rlssl.networks.action_encoding import to_env_actions

__all__ = [
    "ActionSampler",
    "action_sampler",
    "sample_categorical",
    "sample_gaussian",
    "to_env_actions",
]

#: Maps ``ACTION_DIST_INPUTS`` [N, D] to arrays: ACTIONS, ACTION_LOGP [N], ACTION_DIST_INPUTS.
#: With a generator, actions are sampled; with None, the most likely actions are taken.
ActionSampler = Callable[[Tensor, np.random.Generator | None], dict[str, np.ndarray]]

_SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def action_sampler(distribution: Any) -> ActionSampler | None:
    """The sampler that replaces a distribution class; None if there is no such sampler."""
    return {TorchCategorical: sample_categorical, TorchDiagGaussian: sample_gaussian}.get(
        distribution
    )


def sample_categorical(
    logits: Tensor, generator: np.random.Generator | None
) -> dict[str, np.ndarray]:
    """Samples from softmax(logits), or takes the largest logit.

    Args:
        logits: [N, A].
        generator: Random generator; None takes the largest logit.

    Returns:
        ACTIONS [N], int32; ACTION_LOGP [N], float32, nats, 0 without a generator (as in RLlib);
        ACTION_DIST_INPUTS [N, A].

    Example:
        >>> import torch
        >>> sample_categorical(torch.tensor([[0.0, 2.0, 1.0]]), None)[Columns.ACTIONS]
        array([1], dtype=int32)
    """
    logits = logits.cpu()
    inputs = logits.numpy()
    chosen = np.zeros(len(inputs), np.float32)
    if generator is not None:
        logp = logits.log_softmax(-1).numpy()
        # The largest of logp + Gumbel noise is a draw (Gumbel 1954); Gumbel is -log(exponential).
        drawn = generator.standard_exponential(inputs.shape, np.float32)
        # A float32 draw can be 0 (1 in 10 million). Its noise would be infinite: then the action
        # would be chosen whatever its probability is.
        noise = np.log(np.maximum(drawn, _SMALLEST_NORMAL, out=drawn), out=drawn)
        actions = (logp - noise).argmax(axis=-1).astype(np.int32)
        chosen = logp[np.arange(len(actions)), actions]
    else:
        actions = inputs.argmax(axis=-1).astype(np.int32)
    return {
        Columns.ACTIONS: actions,
        Columns.ACTION_LOGP: chosen,
        Columns.ACTION_DIST_INPUTS: inputs,
    }


def sample_gaussian(inputs: Tensor, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
    """Samples from a diagonal Gaussian, or takes its mean.

    Args:
        inputs: [N, 2 A], means and logarithms of the standard deviations.
        generator: Random generator; None takes the mean.

    Returns:
        ACTIONS [N, A], float32; ACTION_LOGP [N], float32, nats, 0 without a generator;
        ACTION_DIST_INPUTS [N, 2 A].

    Example:
        >>> import torch
        >>> sample_gaussian(torch.tensor([[0.5, -1.0, 0.0, 0.0]]), None)[Columns.ACTIONS]
        array([[ 0.5, -1. ]], dtype=float32)
    """
    both = inputs.cpu().numpy()
    mean, log_std = np.split(both, 2, axis=-1)
    actions, logp = mean, np.zeros(len(mean), np.float32)
    if generator is not None:
        std = np.exp(log_std)
        actions = mean + std * generator.standard_normal(mean.shape, np.float32)
        # From the rounded action, because the Learner computes it from the rounded action too.
        standardized = (actions - mean) / std
        logp = (-0.5 * standardized**2 - log_std - _HALF_LOG_TWO_PI).sum(axis=-1)
    return {
        Columns.ACTIONS: actions,
        Columns.ACTION_LOGP: logp,
        Columns.ACTION_DIST_INPUTS: both,
    }
