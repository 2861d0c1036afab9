"""The noise on DDPG's actions, in the replay buffer and in the environment."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.ddpg.ddpg_module import DDPGModule
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_ddpg

OBS = torch.zeros(20_000, 3)


def module_of(**training: Any) -> DDPGModule:
    """The module of an EnvRunner."""
    module: DDPGModule = ActorCriticBench(small_ddpg(**training)).runner.module
    torch.manual_seed(3)
    return module


def deviations(module: DDPGModule, t: int | None = 0) -> np.ndarray:
    batch = {Columns.OBS: OBS}
    explored = module.forward_exploration(batch, t=t)[Columns.ACTIONS]
    return (explored - module.forward_inference(batch)[Columns.ACTIONS]).numpy()


def test_gaussian_noise_follows_env_steps() -> None:
    module = module_of(exploration_std=[[0, 0.2], [100, 0.05]])
    module.model_config["action_repeat"] = 4
    # 12 agent steps are 48 env steps: 0.2 - 0.15 * 0.48.
    for t, std in ((0, 0.2), (12, 0.128), (25, 0.05), (1000, 0.05), (None, 0.05)):
        noise = deviations(module, t)
        # Standard errors: 0.005 for the standard deviation, 0.007 for the mean.
        assert noise.std() == pytest.approx(std, rel=0.03), t
        assert noise.mean() == pytest.approx(0.0, abs=0.006), t


def test_noise_is_clipped_and_actions_stay_in_bounds() -> None:
    assert np.abs(deviations(module_of(exploration_clip=0.05))).max() == pytest.approx(0.05)
    module = module_of(exploration_std=5.0)
    actions = module.forward_exploration({Columns.OBS: OBS}, t=0)[Columns.ACTIONS]
    assert actions.min() == -1.0 and actions.max() == 1.0


def walk_of_runner(**training: Any) -> np.ndarray:
    """[T, N], the noise in a runner's episodes of 200 steps, from their starts."""
    bench = ActorCriticBench(
        small_ddpg(exploration="ornstein_uhlenbeck", **training).env_runners(
            num_envs_per_env_runner=50
        )
    )
    module = bench.runner.module
    with torch.no_grad():
        # Actions without noise are 0.
        for parameter in module.actor.parameters():
            parameter.zero_()
    episodes = bench.runner.sample(num_timesteps=50 * 400, random_actions=False)
    whole = [episode for episode in episodes if len(episode) == 200]
    assert len(whole) == 100
    return np.stack([episode.get_actions() for episode in whole], axis=1)[:, :, 0]


def test_runner_has_the_variance_of_an_ornstein_uhlenbeck_process() -> None:
    noise = walk_of_runner()
    # The process starts at 0 in every episode: after t steps the variance is
    # 0.2^2 * (1 - 0.85^(2 t)) / (1 - 0.85^2), which converges to 0.144.
    for t in (1, 2, 5, 100):
        expected = 0.04 * (1 - 0.85 ** (2 * t)) / (1 - 0.85**2)
        # With 100 processes, the standard error of a variance is 14 %.
        assert noise[t - 1].var() == pytest.approx(expected, rel=0.5), t
    late = noise[30:]
    assert late.var() == pytest.approx(0.144, rel=0.1)
    assert late.mean() == pytest.approx(0.0, abs=0.03)
    for lag in (1, 3):
        correlation = (late[lag:] * late[:-lag]).mean() / (late**2).mean()
        assert correlation == pytest.approx(0.85**lag, abs=0.03), lag


def test_ornstein_uhlenbeck_process_has_options_and_a_factor() -> None:
    noise = walk_of_runner(ou_theta=0.5, ou_sigma=0.1, exploration_std=2.0)[30:]
    # 2^2 * 0.1^2 / (1 - 0.5^2).
    assert noise.var() == pytest.approx(4 * 0.01 / 0.75, rel=0.1)
    assert (noise[1:] * noise[:-1]).mean() / (noise**2).mean() == pytest.approx(0.5, abs=0.03)


def test_evaluation_has_no_noise_and_a_process_can_act_without_state() -> None:
    module = module_of(exploration="ornstein_uhlenbeck")
    best = module.forward_inference({Columns.OBS: OBS})[Columns.ACTIONS]
    assert bool((best == best[0]).all())
    # One step of the process from 0.
    assert deviations(module).std() == pytest.approx(0.2, rel=0.03)


def test_a_share_of_the_actions_is_uniformly_random() -> None:
    noisy, mixed = (
        module_of(exploration_std=1e-6, random_action_share=share) for share in (0.0, 0.3)
    )
    batch = {Columns.OBS: OBS}
    assert np.abs(deviations(noisy)).max() < 1e-4
    far = np.abs(deviations(mixed)) > 1e-4
    # 4 standard deviations of the share: 4 sqrt(0.3 * 0.7 / 20,000) = 0.013.
    assert far.mean() == pytest.approx(0.3, abs=0.013)
    random = mixed.forward_exploration(batch, t=0)[Columns.ACTIONS].numpy()[:, 0]
    away = random[np.abs(random - np.median(random)) > 1e-4]
    # Uniform on [-1, 1]: mean 0, standard deviation 0.577; their standard errors are 0.007, 0.004.
    assert away.mean() == pytest.approx(0.0, abs=0.03)
    assert away.std() == pytest.approx(0.577, abs=0.015)
    best = mixed.forward_inference(batch)[Columns.ACTIONS]
    assert best.equal(mixed.forward_inference(batch)[Columns.ACTIONS])
