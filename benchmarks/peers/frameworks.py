"""rlssl, stock RLlib and Stable-Baselines3 on CartPole, at the settings of `loops`.

Imports are inside functions, so that each contestant's process loads only its own framework.
"""

import warnings
from importlib.util import find_spec
from typing import Any

from benchmarks.harness.contests import UnavailableError
from benchmarks.peers import loops

ENV = "CartPole-v1"


def rlssl_config(num_envs: int, num_rows: int, vectorize: str) -> Any:
    """PPO of rlssl, sampling in this process."""
    import rlssl

    return (
        _settings(rlssl.PPOConfig(), num_envs, num_rows)
        .vectorization(vectorize)
        .model(
            encoder_config={"hidden": list(loops.HIDDEN), "activation": "tanh"},
            shared_encoder=False,
        )
    )


def stock_config(num_envs: int, num_rows: int) -> Any:
    """PPO of RLlib, sampling in this process, without the KL loss, which rlssl's has not."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    model = DefaultModelConfig(
        fcnet_hiddens=list(loops.HIDDEN), fcnet_activation="tanh", vf_share_layers=False
    )
    config = _settings(PPOConfig(), num_envs, num_rows).rl_module(model_config=model)
    return config.training(use_kl_loss=False, vf_clip_param=float("inf"))


def sb3_model(num_envs: int, num_rows: int) -> Any:
    """PPO of Stable-Baselines3; its DummyVecEnv resets in the step that ends an episode."""
    if find_spec("stable_baselines3") is None:
        raise UnavailableError("not installed: pip install 'rlssl[bench]'")
    import gymnasium as gym
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv
    from torch import nn

    hidden = list(loops.HIDDEN)
    return PPO(
        "MlpPolicy",
        DummyVecEnv([lambda: gym.make(ENV)] * num_envs),
        learning_rate=loops.LEARNING_RATE,
        n_steps=num_rows,
        batch_size=num_envs * num_rows // loops.MINIBATCHES,
        n_epochs=loops.EPOCHS,
        gamma=loops.GAMMA,
        gae_lambda=loops.LAMBDA,
        clip_range=loops.CLIP,
        vf_coef=loops.VALUE_COEFF,
        max_grad_norm=loops.MAX_GRAD_NORM,
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": nn.Tanh},
        device="cpu",
        seed=0,
    )


def _settings(config: Any, num_envs: int, num_rows: int) -> Any:
    """Settings that rlssl's and RLlib's configs share."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    batch = num_envs * num_rows
    return (
        config.environment(ENV)
        .env_runners(
            num_env_runners=0, num_envs_per_env_runner=num_envs, rollout_fragment_length=num_rows
        )
        .learners(num_learners=0)
        .training(
            train_batch_size_per_learner=batch,
            minibatch_size=batch // loops.MINIBATCHES,
            num_epochs=loops.EPOCHS,
            lr=loops.LEARNING_RATE,
            gamma=loops.GAMMA,
            lambda_=loops.LAMBDA,
            clip_param=loops.CLIP,
            vf_loss_coeff=loops.VALUE_COEFF,
            entropy_coeff=0.0,
            grad_clip=loops.MAX_GRAD_NORM,
        )
        .debugging(seed=0, log_level="ERROR")
    )
