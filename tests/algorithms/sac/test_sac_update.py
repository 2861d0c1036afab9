"""SAC's update, against plain reference code and by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.sac.sac_learner import SACTorchLearner
from rlssl.batches import to_tensors
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    apart,
    assert_same_networks,
    learner_by_hand,
    same_numbers,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import CPU


def critics(module: Any, obs: Tensor, actions: Tensor) -> list[Tensor]:
    """The values of each critic separately, layer by layer."""
    latent = module["encoder"](obs)
    values = []
    for index in range(2):
        x = torch.cat([latent, actions], dim=1)
        layers = list(module["critic"].layers)
        for layer in layers:
            x = x @ layer.weight[index] + layer.bias[index]
            x = x.relu() if layer is not layers[-1] else x
        values.append(x[:, 0])
    return values


def plain_sac(nets: nn.ModuleDict, slow: Any, log_alpha: Any, batches: Any, noises: Any) -> None:
    """SAC as in the papers: gamma 0.99, tau 0.005, Adam 1e-3, all parts in every update."""
    adam = torch.optim.Adam
    online = [*nets["encoder"].parameters(), *nets["critic"].parameters()]
    policy = [*nets["actor_encoder"].parameters(), *nets["actor"].parameters()]
    critic_adam, actor_adam = adam(online, lr=1e-3), adam(policy, lr=1e-3)
    alpha_adam = adam([log_alpha], lr=1e-3)

    def draw(obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = nets["actor"](nets["actor_encoder"](obs))
        normal = torch.distributions.Normal(mean, log_std.exp())
        before = mean + log_std.exp() * noise
        logp = normal.log_prob(before) - torch.log(1 - before.tanh() ** 2 + 1e-12)
        return before.tanh(), logp.sum(dim=1)

    for batch, (first, second) in zip(batches, noises, strict=True):
        with torch.no_grad():
            next_action, next_logp = draw(batch[Columns.NEXT_OBS], first)
            next_value = torch.min(*critics(slow, batch[Columns.NEXT_OBS], next_action))
            next_value = next_value - log_alpha.exp() * next_logp
            y = batch[Columns.REWARDS] + batch["discounts"] * next_value
        q1, q2 = critics(nets, batch[Columns.OBS], batch[Columns.ACTIONS])
        critic_adam.zero_grad()
        (((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()).backward()
        critic_adam.step()
        action, logp = draw(batch[Columns.OBS], second)
        value = torch.min(*critics(nets, batch[Columns.OBS], action))
        alpha_loss = (log_alpha.exp() * (-logp - (-1.0)).detach()).mean()
        actor_adam.zero_grad()
        (log_alpha.exp().detach() * logp - value).mean().backward()
        actor_adam.step()
        alpha_adam.zero_grad()
        alpha_loss.backward()
        alpha_adam.step()
        with torch.no_grad():
            for name in ("encoder", "critic"):
                pairs = zip(slow[name].parameters(), nets[name].parameters(), strict=True)
                for mine, theirs in pairs:
                    mine.copy_(0.995 * mine + 0.005 * theirs)


def test_updates_equal_plain_reference_code() -> None:
    bench = ActorCriticBench(small_sac(adam_epsilon=1e-8))
    bench.add(bench.sample())
    module = bench.module
    nets, slow = apart(module)
    log_alpha = nn.Parameter(module.log_alpha.detach().clone())
    batches, noises = [], []
    for _ in range(3):
        batch = bench.draw()
        generator = module.update_rng.generator()
        noises.append([torch.randn(32, 1, generator=generator) for _ in range(2)])
        bench.learner.update_on(batch, agent_steps=64)
        batches.append(to_tensors(batch, CPU))
    plain_sac(nets, slow, log_alpha, batches, noises)
    assert_same_networks(module, nets, slow)
    torch.testing.assert_close(module.log_alpha, log_alpha, rtol=0, atol=1e-6)
    assert not torch.equal(log_alpha.detach(), torch.zeros(()))


def two_rows(**columns: Any) -> dict[str, Any]:
    """Two rows; the episode of the second row ended."""
    return {
        Columns.REWARDS: torch.tensor([1.0, 2.0]),
        "discounts": torch.tensor([0.5, 0.0]),
        "weights": torch.ones(2),
        **columns,
    }


def sac_by_hand() -> Any:
    """A Learner whose networks return known numbers."""
    return learner_by_hand(
        SACTorchLearner,
        small_sac(initial_alpha=0.5),
        action_dim=1,
        log_alpha=torch.tensor(math.log(0.5), requires_grad=True),
        actor=lambda latents: (torch.zeros(2, 1), torch.zeros(2, 1)),
        actor_latents=lambda features: features,
        update_rng=same_numbers(0.0),
        target_values=lambda features, actions: torch.tensor([[4.0, 9.0], [6.0, 9.0]]),
        critic=lambda latents, actions: torch.tensor([[4.0, 1.0], [3.0, 2.0]]),
    )


#: log N(0; 0, 1); no correction, because the slope of tanh is 1 at 0.
LOGP = -0.5 * math.log(2 * math.pi)


def test_target_by_hand() -> None:
    learner = sac_by_hand()
    targets = learner.targets(two_rows(), None, None)
    # 1 + 0.5 * (min(4, 6) - 0.5 * logp); the second row ended.
    assert targets.tolist() == pytest.approx([1 + 0.5 * (4 - 0.5 * LOGP), 2.0])
    bonus = two_rows(intrinsic_rewards=torch.tensor([10.0, 0.0]))
    assert learner.targets(bonus, None, None).tolist()[0] == pytest.approx(
        11 + 0.5 * (4 - 0.5 * LOGP)
    )


def test_losses_of_actor_and_temperature_by_hand() -> None:
    learner = sac_by_hand()
    losses = learner.actor_losses({}, None, torch.zeros(2, 1))
    # Mean of 0.5 * logp - 3 and 0.5 * logp - 1.
    assert losses["actor"].item() == pytest.approx(0.5 * LOGP - 2.0)
    # -0.5 * (logp + (-1)); its derivative by log alpha is the same. The entropy, 0.92, is above -1.
    assert losses["alpha"].item() == pytest.approx(-0.5 * (LOGP - 1.0))
    (slope,) = torch.autograd.grad(losses["alpha"], learner.rl_module.log_alpha)
    assert slope.item() == pytest.approx(-0.5 * (LOGP - 1.0)) and slope > 0


def test_temperature_has_its_own_learning_rate_and_beta1_and_may_be_constant() -> None:
    bench = ActorCriticBench(small_sac(alpha_lr=[[0, 1e-2], [128, 0.0]], alpha_beta1=0.5))
    bench.add(bench.sample())
    bench.update_once()
    optimizers = dict(bench.learner.get_optimizers_for_module("default_policy"))
    (group,) = optimizers["alpha"].param_groups
    assert group["lr"] == pytest.approx(1e-2 * (1 - bench.env_steps / 128))
    assert group["betas"] == (0.5, 0.999)
    assert optimizers["actor"].param_groups[0]["betas"][0] == 0.9
    fixed = ActorCriticBench(small_sac(learn_alpha=False, initial_alpha=0.3))
    fixed.add(fixed.sample())
    assert not any("alpha" in key for key in fixed.moved_by())
    assert "alpha" not in dict(fixed.learner.get_optimizers_for_module("default_policy"))


def test_target_entropy_may_be_set() -> None:
    assert ActorCriticBench(small_sac(target_entropy=-3.0)).learner.target_entropy == -3.0
    assert ActorCriticBench(small_sac()).learner.target_entropy == -1.0


@pytest.mark.parametrize("num_critics", [1, 2, 3])
def test_any_number_of_critics_learns(num_critics: int) -> None:
    bench = ActorCriticBench(small_sac(num_critics=num_critics))
    bench.add(bench.sample())
    moved = bench.moved_by()
    assert {"critic.layers.0.weight", "actor.layers.0.weight", "log_alpha"} <= moved
    assert np.isfinite(bench.learner.report()["default_policy"]["critic_loss"].peek())
