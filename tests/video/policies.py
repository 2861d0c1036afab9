"""Untrained policies, without a run."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

import rlssl
from rlssl.environments.env_check import preflight
from rlssl.policy import Policy


def policy_for(env: dict[str, Any], weights_seed: int = 0) -> Policy:
    """A PPO policy with random weights for an environment."""
    spaces = preflight(env, vectorize="sync")
    return _policy(env, spaces.observation_space, spaces.action_space, weights_seed)


def _policy(env: dict[str, Any], observations: gym.Space, actions: gym.Space, seed: int) -> Policy:
    config = rlssl.PPOConfig().environment(env["id"])
    spaces = {DEFAULT_MODULE_ID: (observations, actions)}
    spec = config.get_rl_module_spec(spaces=spaces, inference_only=True)
    settings: dict[str, Any] = {
        "algorithm": "ppo",
        "model": {**spec.model_config, "auxiliary": {}},
        "observation_space": observations,
        "action_space": actions,
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": env,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Policy(spec.build(), settings)


def saved(folder: Path, env: dict[str, Any], weights_seed: int = 0) -> Path:
    """The folder of an export."""
    return policy_for(env, weights_seed).save(folder)
