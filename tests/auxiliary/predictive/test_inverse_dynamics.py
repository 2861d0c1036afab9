"""Inverse dynamics: its floor in tabular environments, resets, controls, action spaces."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

import rlssl
from rlssl.auxiliary.predictive.inverse_dynamics import InverseDynamics
from rlssl.batches import valid_rows
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow
from tests.auxiliary.latents import ACTIONS, SPACES, N, Scaled, make, take, transitions

NUM_STATES = 4


def inverse_dynamics(*args: Any, **options: Any) -> Any:
    return make(InverseDynamics, *args, **options)


def tabular(effects: list[int]) -> dict[str, Tensor]:
    """All pairs of a state and an action; action a leads from state s to s + effects[a]."""
    pairs = itertools.product(range(NUM_STATES), range(len(effects)))
    states, actions = map(torch.tensor, zip(*pairs, strict=True))
    after = (states + torch.tensor(effects)[actions]) % NUM_STATES
    one_hot = torch.eye(NUM_STATES)
    return {
        Columns.OBS: one_hot[states],
        Columns.NEXT_OBS: one_hot[after],
        Columns.ACTIONS: actions,
    }


def trained(batch: dict[str, Tensor], steps: int = 400, **options: Any) -> tuple[Any, Tensor]:
    """A loss after training on one batch, and its values for the batch."""
    loss = inverse_dynamics(encoder=Scaled(NUM_STATES), **{"hidden": 64, **options})
    adam = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        loss.losses(batch)["inverse"].mean().backward()
        adam.step()
        loss.after_update()
    with torch.no_grad():
        return loss, loss.losses(batch)["inverse"]


def test_head_of_zeros_gives_the_log_of_the_number_of_actions() -> None:
    loss = inverse_dynamics()
    for parameter in loss.inverse.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    found = loss.losses(transitions())["inverse"]
    torch.testing.assert_close(found, torch.full((N,), math.log(4)))


def test_parts_of_an_action_are_summed_and_continuous_errors_halved() -> None:
    # MultiDiscrete [2, 3]: log 2 + log 3 = log 6.
    loss = inverse_dynamics(action_space=ACTIONS["multi_discrete"])
    # Box: zeros predicted, so 0.5 * ||a||^2 with the actions clamped to [-1, 1].
    box = inverse_dynamics(action_space=ACTIONS["continuous"])
    for one in (loss, box):
        for parameter in one.inverse.layers[-1].parameters():
            torch.nn.init.zeros_(parameter)
    found = loss.losses(transitions(action_space=ACTIONS["multi_discrete"]))["inverse"]
    torch.testing.assert_close(found, torch.full((N,), math.log(6)))
    batch = transitions(action_space=ACTIONS["continuous"])
    expected = 0.5 * batch[Columns.ACTIONS].clamp(-1, 1).square().sum(-1)
    torch.testing.assert_close(box.losses(batch)["inverse"], expected)


def test_actions_with_distinct_effects_are_predicted_perfectly() -> None:
    batch = tabular([0, 1, 2, 3])
    loss, found = trained(batch)
    assert found.mean() < 0.01
    assert loss.metrics(batch)["accuracy"] == 1.0


def test_actions_with_one_effect_cost_their_entropy() -> None:
    # Two of four actions have the same effect: half of the rows cost log 2, the others 0.
    batch = tabular([0, 1, 2, 2])
    loss, found = trained(batch)
    assert found.mean() == pytest.approx(0.5 * math.log(2), abs=0.01)
    assert found[batch[Columns.ACTIONS] < 2].mean() < 0.02
    # One of the two is always chosen.
    assert loss.metrics(batch)["accuracy"] == 0.75


def test_constant_latents_cost_the_entropy_of_the_policy() -> None:
    # Shares 1/2, 1/4, 1/8, 1/8: 0.5 log 2 + 0.25 log 4 + 0.25 log 8 = 1.75 log 2.
    zeros = torch.zeros(16, NUM_STATES)
    actions = torch.tensor([0] * 8 + [1] * 4 + [2] * 2 + [3] * 2)
    batch = {Columns.OBS: zeros, Columns.NEXT_OBS: zeros, Columns.ACTIONS: actions}
    _, found = trained(batch)
    assert found.mean() == pytest.approx(1.75 * math.log(2), abs=0.01)


def test_shuffled_actions_cannot_be_learned() -> None:
    batch = tabular([0, 1, 2, 3])
    loss, found = trained(batch, shuffled_positives=True)
    assert found.mean() > 1.2  # log 4 = 1.386 for a uniform guess
    rows = loss.of_other_rows(batch[Columns.ACTIONS], loss.update_rng.generator())
    assert rows.bincount().tolist() == [4] * 4 and not rows.equal(batch[Columns.ACTIONS])


def test_continuous_actions_are_predicted_and_their_variance_explained() -> None:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(64, NUM_STATES, generator=generator)
    actions = torch.rand(64, 2, generator=generator) * 1.8 - 0.9
    after = obs + torch.cat([actions, torch.zeros(64, 2)], dim=1)
    batch = {Columns.OBS: obs, Columns.NEXT_OBS: after, Columns.ACTIONS: actions}
    loss, found = trained(batch, action_space=ACTIONS["continuous"])
    assert found.mean() < 0.01
    assert loss.metrics(batch)["explained_variance"] > 0.95
    # The mean action for every row explains nothing.
    loss._compared = actions.mean(dim=0).expand_as(actions), actions
    torch.testing.assert_close(loss.metrics(batch)["explained_variance"], torch.tensor(0.0))


@pytest.mark.parametrize("observations", SPACES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_both_latents_train_the_encoder(observations: str, actions: str) -> None:
    space, action_space = SPACES[observations], ACTIONS[actions]
    loss = inverse_dynamics(space, action_space)
    batch = transitions(space, action_space)
    encoded: list[Tensor] = []

    def encode(obs: Tensor) -> Tensor:
        encoded.append(torch.rand(N, loss.encoder.output_dim, requires_grad=True))
        return encoded[-1]

    loss.__dict__["encoder"], kept = encode, loss.encoder
    encode.output_dim = kept.output_dim  # type: ignore[attr-defined]
    total = loss.losses(batch)["inverse"].sum()
    gradients = torch.autograd.grad(total, encoded)
    assert len(gradients) == 2 and all(bool(gradient.any()) for gradient in gradients)


def test_permuting_the_batch_permutes_the_losses() -> None:
    loss, batch = inverse_dynamics(), transitions()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    found = loss.losses(take(batch, order))["inverse"]
    torch.testing.assert_close(found, loss.losses(batch)["inverse"][order])


def test_no_rows_give_no_losses_no_metrics_and_no_error() -> None:
    loss = inverse_dynamics()
    empty = take(transitions(), slice(0))
    assert loss.losses(empty)["inverse"].shape == (0,)
    assert loss.metrics(empty) == {}


class Numbered(gym.Env):
    """Observes the number of the copy, of the episode and of the step; 3 to 6 steps an episode."""

    observation_space = gym.spaces.Box(-1.0, 1e6, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)
    copies = itertools.count()

    def __init__(self) -> None:
        self._copy, self._episode = next(self.copies), -1

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._step = self._episode + 1, 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        is_last = self._step == 3 + (self._episode + self._copy) % 4
        return self._observation(), 1.0, is_last and self._episode % 2 == 0, is_last, {}

    def _observation(self) -> np.ndarray:
        return np.array([self._copy, self._episode, self._step], np.float32)


rlssl.register_env("test/numbered", lambda config: Numbered())


@pytest.mark.parametrize(
    "small, bench_class",
    [(small_ppo, Bench), (small_a3c, A3CBench), (small_rainbow, RainbowBench)],
    ids=["ppo", "a3c", "rainbow"],
)
def test_no_pair_crosses_a_reset_in_any_copy_or_fragment(
    small: Callable[..., Any], bench_class: type[Bench]
) -> None:
    config = small("test/numbered").auxiliary(inverse_dynamics={})
    bench = bench_class(config.env_runners(num_envs_per_env_runner=3))
    pairs = []
    for _ in range(4):  # fragments; most begin in the middle of an episode
        batch = bench.batch(bench.sample(21))
        assert torch.isfinite(bench.learner.compute_auxiliary_loss(batch))
        rows = valid_rows(batch)
        pairs.append(torch.cat([rows[Columns.OBS], rows[Columns.NEXT_OBS]], dim=1))
    found = torch.cat(pairs)
    before, after = found[:, :3], found[:, 3:]
    assert len(before[:, 0].unique()) == 3 and len(before[:, 1].unique()) >= 4
    assert before[:, :2].equal(after[:, :2])
    assert after[:, 2].equal(before[:, 2] + 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hidden": 0}, "hidden must be a whole number >= 1; got 0."),
        ({"isolated": 1}, "isolated must be true or false; got 1."),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        InverseDynamics.Config(**options)
    assert message in str(error.value)
