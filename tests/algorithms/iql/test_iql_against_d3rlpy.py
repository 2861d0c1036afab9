"""IQL's losses equal those of d3rlpy 2.8.1 on one batch, with the same weights.

D3RLPY was computed with d3rlpy 2.8.1 and torch 2.13.0: ``IQLConfig(gamma=0.9, expectile=0.7,
weight_temp=6.0, max_weight=6.0)`` with encoders ``VectorEncoderFactory([4])``, the weights and the
batch of this file, ``impl.compute_critic_loss(batch, impl.compute_target(batch))`` and
``impl.compute_actor_loss(batch, policy(observations))``.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rlssl
from rlssl.algorithms.iql.iql import IQLConfig
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench

D3RLPY = {
    "critic_loss": 7.191740989685059,
    "value_loss": 0.0249074324965477,
    "actor_loss": 34.236907958984375,
}

GAMMA = 0.9


class Still(gym.Env):
    """An environment for its spaces only."""

    observation_space = gym.spaces.Box(-9.0, 9.0, (3,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(3, np.float32), 0.0, True, False, {}


rlssl.register_env("test/still", lambda config: Still())


def weight(phase: float, outputs: int, inputs: int) -> Tensor:
    """[outputs, inputs], as torch's linear layers have them."""
    return torch.tensor(
        [
            [0.7 * math.sin(1 + phase + 1.7 * row + 0.6 * column) for column in range(inputs)]
            for row in range(outputs)
        ]
    )


def bias(phase: float, outputs: int) -> Tensor:
    return torch.tensor([0.3 * math.cos(phase + row) for row in range(outputs)])


@torch.no_grad()
def fill(network: Any, phase: float) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    for index, layer in enumerate(layers):
        layer.weight.copy_(weight(phase + 3 * index, *layer.weight.shape))
        layer.bias.copy_(bias(phase + 3 * index, len(layer.bias)))


@torch.no_grad()
def fill_critics(critics: Any, *phases: float) -> None:
    for member, phase in enumerate(phases):
        for index, layer in enumerate(critics.layers):
            inputs, outputs = layer.weight.shape[1:]
            layer.weight[member] = weight(phase + 3 * index, outputs, inputs).T
            layer.bias[member, 0] = bias(phase + 3 * index, outputs)


def batch() -> dict[str, np.ndarray]:
    num = 6
    steps, terminated = np.array([1, 2, 1, 1, 3, 1]), np.array([0, 0, 1, 0, 0, 1], bool)
    obs = [[math.sin(i + j) for j in range(3)] for i in range(num)]
    next_obs = [[math.cos(2 * i + j) for j in range(3)] for i in range(num)]
    actions = [[1, -1], [0.5, 0.2], [-0.3, 0.9], [0, 0], [-1, 1], [0.7, -0.6]]
    return {
        "obs": np.array(obs, np.float32),
        "new_obs": np.array(next_obs, np.float32),
        "actions": np.array(actions, np.float32),
        "rewards": np.array([0.5, 1, -2, 3, 0, -1], np.float32),
        "terminateds": terminated,
        "truncateds": np.zeros(num, bool),
        "n_step": steps,
        "discounts": (GAMMA**steps * ~terminated).astype(np.float32),
        "weights": np.ones(num, np.float32),
        "indices": np.arange(num),
    }


def bench() -> ActorCriticBench:
    four = {name: [4] for name in ("critic_hidden", "actor_hidden", "value_hidden")}
    config = (
        IQLConfig()
        .environment("test/still")
        .model(encoder_config={"hidden": []})
        .training(gamma=GAMMA, expectile=0.7, inverse_temperature=6.0, max_weight=6.0, **four)
        .training(train_batch_size_per_learner=6, replay_capacity=100)
        .debugging(seed=0)
    )
    built = ActorCriticBench(config)
    module = built.module
    fill_critics(module.critic, 0.0, 0.5)
    fill_critics(module.target.target["critic"], 1.0, 1.5)
    fill(module.value, 5.0)
    fill(module.actor, 2.5)
    return built


def test_losses_equal_those_of_d3rlpy() -> None:
    learner = bench().learner
    learner.update_on(batch(), agent_steps=0)
    found = {name: float(learner.latest_metrics[(name,)]) for name in D3RLPY}
    assert found == pytest.approx(D3RLPY, rel=1e-6)
    # One of the six weights is clipped: exp(6 * advantage) = 7.15 for the fifth row.
    assert float(learner.latest_metrics[("clipped_weight_share",)]) == pytest.approx(1 / 6)
