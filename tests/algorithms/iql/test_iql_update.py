"""IQL's update against plain reference code, what moves, discrete actions, images."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

import rlssl
from rlssl.algorithms.iql.iql import IQLConfig
from rlssl.batches import to_tensors
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from tests.algorithms.iql.iql_bench import small_iql
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    NETWORKS,
    ActorCriticBench,
    assert_same_networks,
    on_pixels,
)
from tests.algorithms.rainbow.rainbow_bench import CPU
from tests.algorithms.sac.test_sac_update import critics

VALUES = ("value_encoder", "value")


class Two(gym.Env):
    """Two discrete actions at once; one-step episodes."""

    observation_space = gym.spaces.Dict(
        {"at": gym.spaces.Box(-1.0, 1.0, (2,), np.float32), "mode": gym.spaces.Discrete(3)}
    )
    action_space = gym.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        return self._observation(), float(action[1]), True, False, {}

    def _observation(self) -> dict[str, Any]:
        at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"at": at, "mode": int(self.np_random.integers(3))}


rlssl.register_env("test/two_choices", lambda config: Two())


def logp_of(nets: Any, obs: Tensor, actions: Tensor) -> Tensor:
    """[N], from the formula of a Gaussian."""
    mean, log_std = nets["actor"](nets["actor_encoder"](obs)).chunk(2, dim=1)
    normal = torch.distributions.Normal(mean, log_std.exp())
    return normal.log_prob(actions).sum(dim=1)


def plain_iql(nets: Any, slow: Any, batches: Any) -> None:
    """IQL as in the paper: gamma 0.99, expectile 0.7, beta 3, tau 0.005, Adam 3e-4."""
    groups = [("encoder", "critic"), VALUES, ("actor_encoder", "actor")]
    critic_adam, *others = [
        torch.optim.Adam([p for name in names for p in nets[name].parameters()], lr=3e-4)
        for names in groups
    ]
    for batch in batches:
        obs, actions = batch[Columns.OBS], batch[Columns.ACTIONS]
        with torch.no_grad():
            after = nets["value"](nets["value_encoder"](batch[Columns.NEXT_OBS]))[:, 0]
            y = batch[Columns.REWARDS] + batch["discounts"] * after
            q = torch.min(*critics(slow, obs, actions))
        q1, q2 = critics(nets, obs, actions)
        critic_adam.zero_grad()
        (((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()).backward()
        critic_adam.step()
        v = nets["value"](nets["value_encoder"](obs))[:, 0]
        v_losses, pi_losses = [], []
        for row, logp in enumerate(logp_of(nets, obs, actions)):
            advantage = float(q[row] - v[row].detach())
            share = 0.3 if advantage < 0 else 0.7
            v_losses.append(share * (q[row] - v[row]) ** 2)
            pi_losses.append(-min(np.exp(3.0 * advantage), 100.0) * logp)
        for adam, losses in zip(others, (v_losses, pi_losses), strict=True):
            adam.zero_grad()
            torch.stack(losses).mean().backward()
            adam.step()
        with torch.no_grad():
            for name in ("encoder", "critic"):
                pairs = zip(slow[name].parameters(), nets[name].parameters(), strict=True)
                for mine, theirs in pairs:
                    mine.copy_(0.995 * mine + 0.005 * theirs)


@pytest.mark.parametrize("n_step", [1, 3])
def test_updates_equal_plain_reference_code(n_step: int) -> None:
    bench = ActorCriticBench(small_iql(n_step=n_step))
    bench.add(bench.sample())
    module = bench.module
    with torch.no_grad():
        for parameter in module.target.parameters():
            parameter.mul_(1.1)
    nets = nn.ModuleDict(
        {name: copy.deepcopy(getattr(module, name)) for name in (*NETWORKS, *VALUES)}
    )
    slow = copy.deepcopy(module.target.target)
    batches = []
    for _ in range(3):
        batches.append(bench.draw())
        bench.learner.update_on(batches[-1], agent_steps=64)
    plain_iql(nets, slow, [to_tensors(batch, CPU) for batch in batches])
    assert_same_networks(module, nets, slow)
    for name in VALUES:
        for key, value in nets[name].state_dict().items():
            found = getattr(module, name).state_dict()[key]
            torch.testing.assert_close(found, value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1", "test/two_choices"])
def test_every_part_learns_and_the_policy_acts_in_its_space(env: str) -> None:
    bench = ActorCriticBench(small_iql(env))
    bench.add(bench.sample())
    assert bench.moved_by() == set(bench.states())
    module, space = bench.module, bench.runner.get_spaces()["__env_single__"][1]
    batch = to_tensors(bench.draw(), CPU)
    for forward in (module.forward_inference, module.forward_exploration):
        actions = forward({Columns.OBS: batch[Columns.OBS]})[Columns.ACTIONS].numpy()
        assert actions.shape == (32, *space.shape)
    best = module.forward_inference({Columns.OBS: batch[Columns.OBS]})[Columns.ACTIONS].numpy()
    scaled = best * 2 if env == "Pendulum-v1" else best
    assert all(row in space for row in scaled)


def test_auxiliary_loss_and_critics_share_the_convolutions_and_the_values_do_not_move_them() -> (
    None
):
    config = on_pixels(small_iql("test/dot", critic_hidden=[16], actor_hidden=[16]))
    bench = ActorCriticBench(config.auxiliary(deepmdp={}))
    bench.add(bench.sample())
    module = bench.module
    batch = to_tensors(bench.draw(), CPU)
    features = module.features(batch[Columns.OBS])
    assert features.requires_grad
    heads = [*module.value_encoder.parameters(), *module.value.parameters()]
    moved = torch.autograd.grad(
        module.state_values(features).sum(), [features, *heads], allow_unused=True
    )
    assert moved[0] is None
    assert all(gradient is not None for gradient in moved[1:])
    changed = bench.moved_by()
    assert {key for key in bench.states() if key.startswith("encoder.")} <= changed


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("expectile", 1.0, r"training.expectile must be in \(0, 1\); got 1.0"),
        ("expectile", 0.0, "training.expectile must be > 0 and <= 1; got 0.0"),
        ("inverse_temperature", -1.0, "training.inverse_temperature must be >= 0; got -1.0"),
        ("max_weight", 0.0, "training.max_weight must be > 0; got 0.0"),
        ("log_std_bounds", [2.0, -5.0], "training.log_std_bounds must be two ascending"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        small_iql(**{key: value}).validate()


def test_box_without_bounds_is_refused_and_published_values_are_the_defaults() -> None:
    config = IQLConfig()
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    spaces = EnvSpaces(gym.spaces.Box(-1, 1, (3,), np.float32), space)
    with pytest.raises(SpecError, match="'iql' needs actions with finite bounds"):
        config.adapt_to(spaces)
    assert (config.expectile, config.inverse_temperature, config.tau) == (0.7, 3.0, 0.005)
    assert config.max_weight == 100.0
