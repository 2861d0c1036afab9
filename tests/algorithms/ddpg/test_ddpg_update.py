"""The updates of DDPG, TD3 and DrQ-v2, against plain reference code and by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.ddpg.ddpg_learner import SATURATED_ACTIONS, DDPGTorchLearner
from rlssl.algorithms.ddpg.presets import PRESETS
from rlssl.batches import to_tensors
from rlssl.errors import SpecError
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    NETWORKS,
    ActorCriticBench,
    apart,
    assert_same_networks,
    learner_by_hand,
    same_numbers,
    small_ddpg,
)
from tests.algorithms.rainbow.rainbow_bench import CPU

TD3 = {
    key: PRESETS["td3"]["training"][key]
    for key in (
        *("num_critics", "target_noise_std", "target_noise_clip"),
        *("actor_update_every_updates", "target_update_every_updates"),
    )
}


def q(nets: Any, index: int, obs: Tensor, actions: Tensor) -> Tensor:
    """One critic's values, layer by layer."""
    x = torch.cat([nets["encoder"](obs), actions], dim=1)
    layers = list(nets["critic"].layers)
    for layer in layers:
        x = x @ layer.weight[index] + layer.bias[index]
        x = x.relu() if layer is not layers[-1] else x
    return x[:, 0]


def plain(nets: Any, slow: Any, batches: Any, noises: Any, *, td3: bool) -> None:
    """DDPG, or TD3, as published: gamma 0.99, tau 0.005, Adam 1e-3."""
    every, num = (2, 2) if td3 else (1, 1)
    online = [*nets["encoder"].parameters(), *nets["critic"].parameters()]
    policy = [*nets["actor_encoder"].parameters(), *nets["actor"].parameters()]
    critic_adam = torch.optim.Adam(online, lr=1e-3)
    actor_adam = torch.optim.Adam(policy, lr=1e-3)
    for count, (batch, noise) in enumerate(zip(batches, noises, strict=True), start=1):
        obs, next_obs = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            action = slow["actor"](slow["actor_encoder"](next_obs))
            if td3:
                action = (action + (0.2 * noise).clamp(-0.5, 0.5)).clamp(-1, 1)
            value = torch.stack([q(slow, i, next_obs, action) for i in range(num)]).amin(dim=0)
            y = batch[Columns.REWARDS] + batch["discounts"] * value
        values = [q(nets, i, obs, batch[Columns.ACTIONS]) for i in range(num)]
        critic_adam.zero_grad()
        torch.stack([((value - y) ** 2).mean() for value in values]).sum().backward()
        critic_adam.step()
        if count % every:
            continue
        actor_adam.zero_grad()
        (-q(nets, 0, obs, nets["actor"](nets["actor_encoder"](obs)))).mean().backward()
        actor_adam.step()
        with torch.no_grad():
            for name in slow:
                pairs = zip(slow[name].parameters(), nets[name].parameters(), strict=True)
                for mine, theirs in pairs:
                    mine.copy_(0.995 * mine + 0.005 * theirs)


@pytest.mark.parametrize("td3", [False, True], ids=["ddpg", "td3"])
def test_updates_equal_plain_reference_code(td3: bool) -> None:
    bench = ActorCriticBench(small_ddpg(**(TD3 if td3 else {})))
    bench.add(bench.sample())
    module = bench.module
    nets, slow = apart(module)
    assert set(slow.keys()) == set(NETWORKS)
    batches, noises = [], []
    for _ in range(4):
        batch = bench.draw()
        noises.append(torch.randn(32, 1, generator=module.update_rng.generator()))
        bench.learner.update_on(batch, agent_steps=64)
        batches.append(to_tensors(batch, CPU))
    plain(nets, slow, batches, noises, td3=td3)
    assert_same_networks(module, nets, slow)


@pytest.mark.parametrize(
    "noise, expected",
    [
        # 0.2 * 1: row 1 at 0.2, 3 + 0.5 * 2; row 2 at the bound 1, 4 + 0.25 * 10.
        (1.0, [4.0, 6.5]),
        # 0.2 * 9 is clipped at 0.5: 3 + 0.5 * 5.
        (9.0, [5.5, 6.5]),
    ],
)
def test_td3s_target_by_hand(noise: float, expected: list[float]) -> None:
    learner = learner_by_hand(
        DDPGTorchLearner,
        small_ddpg(**TD3),
        target_actions=lambda features, target_features: torch.tensor([[0.0], [0.9]]),
        update_rng=same_numbers(noise),
        # The value of an action is ten times the action; the first critic adds 1.
        target_values=lambda features, actions: torch.stack(
            [10 * actions[:, 0] + 1, 10 * actions[:, 0]]
        ),
    )
    batch = {
        Columns.REWARDS: torch.tensor([3.0, 4.0]),
        "discounts": torch.tensor([0.5, 0.25]),
    }
    assert learner.targets(batch, None, None).tolist() == pytest.approx(expected)


def test_drq_v2s_actor_maximizes_the_smallest_critic_at_a_noisy_action() -> None:
    config = small_ddpg(
        num_critics=2,
        actor_noise=True,
        actor_critics="min",
        exploration_std=0.5,
        target_noise_std=None,
        target_noise_clip=0.3,
    )
    pre_tanh = torch.tensor([[0.0], [0.9]]).atanh().requires_grad_()
    learner = learner_by_hand(
        DDPGTorchLearner,
        config,
        actor=SimpleNamespace(before_tanh=lambda latents: pre_tanh),
        actor_latents=lambda features: features,
        update_rng=same_numbers(0.4),
        critic=lambda latents, actions: torch.stack([2 * actions[:, 0], 5 * actions[:, 0]]),
    )
    (loss,) = learner.actor_losses({}, None, torch.zeros(2, 1)).values()
    # 0.5 * 0.4 = 0.2: actions 0.2 and, at the bound, 1; smallest values 0.4 and 2.
    assert loss.item() == pytest.approx(-1.2)
    (slope,) = torch.autograd.grad(loss, pre_tanh)
    # Half of -2 each, times the tanh's slope: the gradient passes the clipping at the bound.
    assert slope.flatten().tolist() == pytest.approx([-1.0, -(1 - 0.9**2)])


def test_first_critic_equals_the_first_of_all_critics() -> None:
    module = ActorCriticBench(small_ddpg(num_critics=2)).module
    latents, actions = torch.randn(5, 16), torch.randn(5, 1)
    first = module.critic(latents, actions)[0]
    torch.testing.assert_close(module.critic.first(latents, actions), first)


def test_weight_decay_applies_to_the_critics_but_not_the_actor() -> None:
    bench = ActorCriticBench(small_ddpg(critic_weight_decay=0.5, actor_lr=1e-4))
    optimizers = dict(bench.learner.get_optimizers_for_module("default_policy"))
    assert optimizers["critic"].param_groups[0]["weight_decay"] == 0.5
    assert optimizers["actor"].param_groups[0]["weight_decay"] == 0.0
    bench.add(bench.sample())
    bench.update_once()
    assert optimizers["critic"].param_groups[0]["lr"] == 1e-3
    assert optimizers["actor"].param_groups[0]["lr"] == 1e-4


def test_saturated_actor_recovers_only_with_the_penalty() -> None:
    # In float32, the tanh of 30 is exactly 1, and its slope exactly 0.
    saturated, learned = {}, {}
    for weight in (0.0, 1e-3):
        bench = ActorCriticBench(small_ddpg(saturation_penalty=weight))
        bench.add(bench.sample())
        last = bench.module.actor.layers[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, 30.0)
        bench.learner.update_on(bench.draw(), agent_steps=64)
        learned[weight] = last.bias.item()
        saturated[weight] = bench.learner.metrics_of_last_update()[SATURATED_ACTIONS].item()
    assert learned[0.0] == 30.0
    assert learned[1e-3] < 30.0
    assert saturated == {0.0: 1.0, 1e-3: 1.0}


def test_saturated_actions_are_counted() -> None:
    bench = ActorCriticBench(small_ddpg())
    bench.add(bench.sample())
    rows = len(bench.draw()[Columns.REWARDS])
    actor = bench.module.actor
    # Half of the actions are above 0.97, the tanh of 2.09.
    pre_tanh = torch.tensor([2.0, -2.2]).repeat(rows // 2)[:, None].requires_grad_()
    actor.before_tanh = lambda latents: pre_tanh + 0.0 * actor.layers(latents)
    bench.learner.update_on(bench.draw(), agent_steps=64)
    assert bench.learner.metrics_of_last_update()[SATURATED_ACTIONS].item() == 0.5


def test_negative_penalty_is_refused() -> None:
    with pytest.raises(SpecError, match=r"training.saturation_penalty must be >= 0; got -1"):
        small_ddpg(saturation_penalty=-1.0).validate()


def test_penalty_on_actions_is_their_mean_square() -> None:
    actions = torch.tensor([[0.5, -0.5], [1.0, 0.0]])
    losses = {}
    for weight in (0.0, 2.0):
        learner = learner_by_hand(
            DDPGTorchLearner,
            small_ddpg(action_l2=weight, actor_noise=True, target_noise_std=0.2),
            actor=SimpleNamespace(before_tanh=lambda latents: actions.atanh().clamp(-20, 20)),
            actor_latents=lambda features: features,
            critic=SimpleNamespace(first=lambda latents, acted: acted.sum(dim=1)),
            update_rng=same_numbers(0.5),
        )
        found = learner.actor_losses({}, torch.zeros(2, 1), torch.zeros(2, 1))
        losses[weight] = found["actor"]
    # Without noise: (0.25 + 0.25 + 1 + 0) / 4 = 0.375.
    assert (losses[2.0] - losses[0.0]).item() == pytest.approx(2.0 * 0.375, abs=1e-6)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, [-9.0, -3.0, 4.0]),
        ({"target_min": -5.0, "target_max": 0.0}, [-5.0, -3.0, 0.0]),
        ({"target_max": 0.0}, [-9.0, -3.0, 0.0]),
    ],
)
def test_targets_stay_within_their_bounds(bounds: dict[str, float], expected: list[float]) -> None:
    values = torch.tensor([[-8.0, -2.0, 5.0]])
    learner = learner_by_hand(
        DDPGTorchLearner,
        small_ddpg(**bounds),
        target_actions=lambda features, target: torch.zeros(3, 1),
        target_values=lambda features, actions: values,
    )
    batch = {Columns.REWARDS: torch.full((3,), -1.0), "discounts": torch.ones(3)}
    assert learner.targets(batch, None, None).tolist() == expected


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(SpecError, match=r"target_min must be < target_max; got 1.0 and 0.0"):
        small_ddpg(target_min=1.0, target_max=0.0).validate()
