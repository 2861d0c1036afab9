"""Networks of every algorithm, on the same observations."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rlssl.connectors.frame_stack import stacked_space
from rlssl.environments.env_check import EnvSpaces
from rlssl.registry import ALGORITHMS

VECTORS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
#: An encoder that every algorithm builds alike.
SMALL = {"encoder": "mlp", "encoder_config": {"hidden": [16], "activation": "tanh"}}


def module_of(
    algorithm: str, space: gym.Space = VECTORS, *, seed: int = 0, losses: Any = None, **model: Any
) -> Any:
    """The new networks of an algorithm, for learning.

    Args:
        algorithm: Registered name.
        space: Space of one observation, without a stack.
        seed: Seed of the weights.
        losses: Auxiliary losses.
        **model: Settings of ``model``.
    """
    config = ALGORITHMS[algorithm]()
    actions: gym.Space = gym.spaces.Discrete(3)
    if config.actions == "continuous":
        actions = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    config.model(**{**SMALL, **model}).debugging(seed=0)
    if losses:
        config.auxiliary(**losses)
    config.adapt_to(EnvSpaces(space, actions))
    stacked = stacked_space(space, config.frame_stack, config.network["encoder_config"])
    torch.manual_seed(seed)
    return config.get_rl_module_spec(
        spaces={DEFAULT_MODULE_ID: (stacked, actions)}, inference_only=False
    ).build()


def all_weights(module: Any) -> dict[str, torch.Tensor]:
    """A copy of the parameters and buffers of a module."""
    state = module.state_dict()
    return {name: it.clone() for name, it in state.items() if isinstance(it, torch.Tensor)}
