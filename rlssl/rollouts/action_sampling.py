"""From a policy's outputs to actions and their log-probabilities, without distribution objects.

For the action distributions that most policies have. What is drawn is distributed as RLlib's own
classes would draw it, from other random numbers.
"""

import math
from collections.abc import Callable
from typing import Any, TypeGuard

import gymnasium as gym
import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
)
from ray.rllib.utils.spaces.space_utils import (
    clip_action,
    get_base_struct_from_space,
    unsquash_action,
)
from torch import Tensor

#: From ``ACTION_DIST_INPUTS`` [N, D] to arrays: ACTIONS, ACTION_LOGP [N], ACTION_DIST_INPUTS.
#: The generator is drawn from to explore; without one, the most likely actions are taken.
ActionSampler = Callable[[Tensor, np.random.Generator | None], dict[str, np.ndarray]]

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def action_sampler(distribution: Any) -> ActionSampler | None:
    """The sampler that replaces a distribution class; None where there is none."""
    return {TorchCategorical: sample_categorical, TorchDiagGaussian: sample_gaussian}.get(
        distribution
    )


def sample_categorical(
    logits: Tensor, generator: np.random.Generator | None
) -> dict[str, np.ndarray]:
    """Draws from softmax(logits), or takes the largest.

    Args:
        logits: [N, A].
        generator: Drawn from; None: nothing is drawn.

    Returns:
        ACTIONS [N], int32; ACTION_LOGP [N], float32, nats, 0 where nothing is drawn, as RLlib has
        it; ACTION_DIST_INPUTS [N, A].
    """
    logits = logits.cpu()
    inputs = logits.numpy()
    chosen = np.zeros(len(inputs), np.float32)
    if generator is not None:
        logp = logits.log_softmax(-1).numpy()
        # The largest of logp + Gumbel noise is a draw (Gumbel 1954); Gumbel is -log(exponential).
        noise = np.log(generator.standard_exponential(inputs.shape, np.float32))
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
    """Draws from a diagonal Gaussian, or takes its mean.

    Args:
        inputs: [N, 2 A], means and logarithms of the deviations.
        generator: Drawn from; None: nothing is drawn.

    Returns:
        ACTIONS [N, A], float32; ACTION_LOGP [N], float32, nats, 0 where nothing is drawn;
        ACTION_DIST_INPUTS [N, 2 A].
    """
    both = inputs.cpu().numpy()
    mean, log_std = np.split(both, 2, axis=-1)
    actions, logp = mean, np.zeros(len(mean), np.float32)
    if generator is not None:
        std = np.exp(log_std)
        actions = mean + std * generator.standard_normal(mean.shape, np.float32)
        # Of the action as it was rounded: that is what the Learner computes again.
        deviations = (actions - mean) / std
        logp = (-0.5 * deviations**2 - log_std - _HALF_LOG_TWO_PI).sum(axis=-1)
    return {
        Columns.ACTIONS: actions,
        Columns.ACTION_LOGP: logp,
        Columns.ACTION_DIST_INPUTS: both,
    }


def to_env_actions(space: gym.Space, *, normalize: bool, clip: bool) -> Callable[[Any], Any]:
    """What maps a batch of the policy's actions into a space, as NormalizeAndClipActions does.

    Args:
        space: Of one environment.
        normalize: Whether [-1, 1] stands for the bounds of a Box.
        clip: Whether actions beyond the bounds are clipped, where they are not normalised.
    """
    if isinstance(space, gym.spaces.Discrete) or not (normalize or clip):
        return lambda actions: actions
    struct = get_base_struct_from_space(space)
    if normalize and _is_bounded(space):
        low, high, span = space.low, space.high, space.high - space.low
        return lambda actions: np.clip(low + (actions + 1.0) * span / 2.0, low, high)
    change = unsquash_action if normalize else clip_action
    return lambda actions: change(actions, struct)


def _is_bounded(space: gym.Space) -> TypeGuard[gym.spaces.Box]:
    if not isinstance(space, gym.spaces.Box):
        return False
    return np.issubdtype(space.dtype, np.floating) and space.is_bounded()
