"""Behavioral cloning from observation: an inverse model labels demonstrations without actions."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import nn

from rlssl.auxiliary.imitation.demonstrations import Demonstrations
from rlssl.auxiliary.imitation.labeling import Agreement, labeled
from rlssl.auxiliary.predictive.inverse_dynamics import InverseDynamics
from rlssl.data import Episode, EpisodeDataset
from rlssl.environments import make_env
from rlssl.networks import build_encoder
from tests.auxiliary.imitation.recorded import record

CPU = torch.device("cpu")
CARTPOLE = {"id": "CartPole-v1"}


def trained_on(episodes: list[Episode], space: gym.Space, actions: gym.Space, updates: int) -> Any:
    """Inverse dynamics on its encoder, as `rlssl pretrain` trains them."""
    torch.manual_seed(0)
    encoder = build_encoder(space)
    loss = InverseDynamics(
        InverseDynamics.Config(), encoder=encoder, observation_space=space, action_space=actions
    )
    steps = Demonstrations(episodes, space, actions)
    adam = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], lr=1e-3)
    columns = [Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS]
    generator = np.random.default_rng(0)
    for _ in range(updates):
        batch = steps.rows(generator.integers(0, len(steps), 128), columns, CPU)
        adam.zero_grad()
        loss.losses(batch)["inverse"].mean().backward()
        adam.step()
    return loss


def clone_of(episodes: list[Episode]) -> nn.Module:
    """A policy of CartPole, cloned with plain torch."""
    torch.manual_seed(0)
    policy = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    adam = torch.optim.Adam(policy.parameters(), lr=1e-2)
    observations = torch.from_numpy(np.concatenate([it.observations[:-1] for it in episodes]))
    actions = torch.from_numpy(np.concatenate([it.actions for it in episodes]))
    for _ in range(300):
        adam.zero_grad()
        nn.functional.cross_entropy(policy(observations), actions).backward()
        adam.step()
    return policy


def test_200_random_steps_label_cartpole_and_the_clone_balances(tmp_path: Path) -> None:
    experts: list[Any] = ["expert/cartpole"] * 2
    demonstrations = list(EpisodeDataset(record(tmp_path / "demos", CARTPOLE, experts)))
    randoms = list(EpisodeDataset(record(tmp_path / "random", CARTPOLE, [None] * 12, seed=100)))
    own, total = [], 0
    for episode in randoms:
        own.append(episode)
        total += len(episode)
        if total >= 200:
            break
    assert 200 <= total < 260
    env: Any = make_env(CARTPOLE)
    loss = trained_on(own, env.observation_space, env.action_space, updates=400)
    agreement, found = Agreement(env.action_space), []
    for episode in demonstrations:
        found.append(labeled(dataclasses.replace(episode, actions=None), loss, CPU))
        agreement.add(found[-1].actions, episode.actions)
    assert agreement.measure == {"accuracy": 1.0}
    policy = clone_of(found)
    observation, _ = env.reset(seed=7)
    for step in range(1, 501):  # noqa: B007
        action = int(policy(torch.from_numpy(observation)).argmax())
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    assert step == 500 and not terminated


class Difference(nn.Module):
    """The action is the last element of the next latent minus that of the latent."""

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return (after - before)[:, -1:]


class Same(nn.Module):
    output_dim = 3

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations.float()


def test_labels_of_an_episode_do_not_depend_on_other_episodes_and_are_in_the_envs_units() -> None:
    space = gym.spaces.Box(-99, 99, (3,), np.float32)
    pushes = gym.spaces.Box(-2, 2, (1,), np.float32)
    loss = InverseDynamics(
        InverseDynamics.Config(), encoder=Same(), observation_space=space, action_space=pushes
    )
    loss.inverse = Difference()  # type: ignore[assignment]
    # Heights 0, 0.5, 0.25, 9: the policy's actions are 0.5, -0.25, and 8.75, clamped to 1.
    frames = np.zeros((4, 3), np.float32)
    frames[:, 2] = [0.0, 0.5, 0.25, 9.0]
    episode = Episode(frames, None, np.zeros(3, np.float32), truncated=True)
    found = labeled(episode, loss, CPU)
    assert found.actions.tolist() == [[1.0], [-0.5], [2.0]]
    assert found.actions.dtype == np.float32 and found.truncated
    assert np.array_equal(found.observations, frames)


@pytest.mark.parametrize(
    "space, dtype",
    [
        (gym.spaces.Discrete(3, start=2), np.int64),
        (gym.spaces.MultiDiscrete([3, 2]), np.int64),
        (gym.spaces.MultiBinary(3), np.int8),
        (gym.spaces.Box(-3, 3, (2,), np.float32), np.float32),
    ],
    ids=str,
)
def test_labels_of_every_action_space_are_in_it(space: Any, dtype: Any) -> None:
    observations = gym.spaces.Box(-1, 1, (3,), np.float32)
    torch.manual_seed(0)
    loss = InverseDynamics(
        InverseDynamics.Config(),
        encoder=build_encoder(observations),
        observation_space=observations,
        action_space=space,
    )
    frames = np.random.default_rng(0).normal(size=(301, 3)).astype(np.float32)
    found = labeled(Episode(frames, None, np.zeros(300, np.float32)), loss, CPU)
    assert found.actions.dtype == dtype and len(found.actions) == 300
    assert all(action in space for action in found.actions)


def test_agreement_of_continuous_labels_by_hand() -> None:
    # Actions 1, 3: the variance sums to 2. Labels 1, 2: the squared errors sum to 1.
    agreement = Agreement(gym.spaces.Box(-5, 5, (1,), np.float32))
    agreement.add(np.array([[1.0]]), np.array([[1.0]]))
    agreement.add(np.array([[2.0]]), np.array([[3.0]]))
    assert agreement.measure == {"explained_variance": 0.5}
    assert Agreement(gym.spaces.Discrete(2)).measure == {}
