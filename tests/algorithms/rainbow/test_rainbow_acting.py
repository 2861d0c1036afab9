"""How Rainbow acts: noise, random actions, and the saved policy."""

import itertools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.common.action_spaces import check_actions
from rlssl.algorithms.rainbow.rainbow_module import RainbowModule
from rlssl.errors import SpecError
from rlssl.policy import Policy
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

OBS = torch.tensor([[0.1, -0.2, 0.3, -0.4]] * 4000)


def module_of(**training: Any) -> RainbowModule:
    """The module of an EnvRunner, with action values that differ."""
    module: RainbowModule = RainbowBench(small_rainbow(**training)).runner.module
    torch.manual_seed(3)
    return module


def share_of_zeros(actions: torch.Tensor) -> float:
    return float((actions == 0).float().mean())


def greedy(module: RainbowModule) -> int:
    return int(module.forward_inference({Columns.OBS: OBS[:1]})[Columns.ACTIONS])


def test_noise_for_acting_is_new_every_step_and_evaluation_has_none() -> None:
    module = module_of()
    values = []
    for forward in (module.forward_exploration, module.forward_inference):
        for _ in range(2):
            forward({Columns.OBS: OBS[:1]})
            values.append(module.acting_values({Columns.OBS: OBS[:1]}))
    assert not torch.equal(values[0], values[1])
    assert torch.equal(values[2], values[3])
    assert not any(torch.equal(values[2], noisy) for noisy in values[:2])


def test_epsilon_follows_env_steps() -> None:
    module = module_of(noisy=False, epsilon=[[0, 1.0], [100, 0.0]])
    module.model_config["action_repeat"] = 4
    best = greedy(module)
    for t, epsilon in ((0, 1.0), (10, 0.6), (25, 0.0), (1000, 0.0)):
        actions = module.forward_exploration({Columns.OBS: OBS}, t=t)[Columns.ACTIONS]
        other = float((actions != best).float().mean())
        # Half of the random actions are the best one. Standard error of the share: at most 0.008.
        assert other == pytest.approx(epsilon / 2, abs=0.04), t


def test_evaluation_has_its_own_epsilon() -> None:
    module = module_of(noisy=False, eval_epsilon=0.5)
    actions = module.forward_inference({Columns.OBS: OBS})[Columns.ACTIONS]
    assert min(share_of_zeros(actions), 1 - share_of_zeros(actions)) == pytest.approx(
        0.25, abs=0.04
    )


def test_boltzmann_draws_in_proportion_to_exponentials_of_values() -> None:
    module = module_of(noisy=False, exploration="boltzmann", temperature=0.05, epsilon=0.0)
    with torch.no_grad():
        for parameter in module.head.parameters():
            parameter.mul_(20.0)
    values = module.acting_values({Columns.OBS: OBS[:1]})
    actions = module.forward_exploration({Columns.OBS: OBS}, t=0)[Columns.ACTIONS]
    expected = float((values / 0.05).softmax(dim=1)[0, 0])
    assert 0.0 < expected < 1.0
    assert share_of_zeros(actions) == pytest.approx(expected, abs=0.04)


def test_noise_of_an_episode_stays_until_the_next_begins() -> None:
    bench = RainbowBench(small_rainbow(noise_redraw="episode"))
    runner, noises, ends = bench.runner, [], []
    for _ in range(400):
        episodes = runner.sample(num_timesteps=2, random_actions=False)
        noises.append(runner.module.online_noisy[0].noise_values.clone())
        ends.append(any(episode.is_done for episode in episodes))
    same = [torch.equal(one, other) for one, other in itertools.pairwise(noises)]
    assert any(ends) and not all(same)
    # After an episode ends, the next step is the autoreset.
    for index, is_same in enumerate(same):
        if not any(ends[max(0, index - 1) : index + 2]):
            assert is_same, index


def test_noise_is_held_within_the_episode_of_each_copy() -> None:
    config = small_rainbow(noise_redraw="episode").env_runners(num_envs_per_env_runner=3)
    runner = RainbowBench(config).runner
    episodes = []
    for _ in range(40):
        episodes += runner.sample(num_timesteps=3 * 8, random_actions=False)
    seeds_of: dict[str, set[int]] = {}
    for episode in episodes:
        column = episode.get_extra_model_outputs(Columns.STATE_OUT)["noise_seed"]
        seeds_of.setdefault(episode.id_, set()).update(np.asarray(column).tolist())
    # One seed in each episode, and no two episodes share one.
    assert len(seeds_of) > 20
    assert all(len(seeds) == 1 for seeds in seeds_of.values())
    assert len(set.union(*seeds_of.values())) == len(seeds_of)


def test_noise_of_a_copy_does_not_depend_on_the_other_copies() -> None:
    module = module_of(noise_redraw="episode", sigma0=5.0)
    obs = torch.randn(6, 1, 4)
    seeds = torch.tensor([11, 12, 13, 11, 12, 13])
    batch = {Columns.OBS: obs, Columns.STATE_IN: {"noise_seed": seeds}}
    module._use_noise(True)
    together = module._values_by_episode(batch, seeds)
    for row in range(6):
        one = {Columns.OBS: obs[row : row + 1], Columns.STATE_IN: {"noise_seed": seeds[:1]}}
        alone = module._values_by_episode(one, seeds[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-5)
    # Another copy begins an episode: the seeds of the others stay.
    seeds = torch.tensor([11, 0, 13])
    batch = {Columns.OBS: obs[:3], Columns.STATE_IN: {"noise_seed": seeds}}
    after = module.forward_exploration(batch, t=0)[Columns.STATE_OUT]["noise_seed"]
    assert after[[0, 2]].tolist() == [11, 13]
    assert after[1] not in (0, 11, 12, 13)


def test_noise_of_an_episode_survives_new_weights() -> None:
    module = module_of(noise_redraw="episode")
    state = {"noise_seed": torch.tensor([11, 11])}
    batch = {Columns.OBS: OBS[:2, None], Columns.STATE_IN: state}
    module.forward_exploration(batch, t=0)
    before = module.online_noisy[0].noise_values.clone()
    module.set_state({**module.get_state(), "head.actions.0.noise_values": 0 * before.numpy()})
    out = module.forward_exploration(batch, t=0)
    assert torch.equal(module.online_noisy[0].noise_values, before)
    assert out[Columns.STATE_OUT]["noise_seed"].tolist() == [11, 11]
    assert out[Columns.ACTIONS].shape == (2, 1)


def test_runner_has_the_learners_values_but_no_target_network() -> None:
    bench = RainbowBench(small_rainbow().auxiliary(curl={}))
    keys = set(bench.runner.module.state_dict())
    assert not any(key.startswith(("target", "auxiliary", "noise")) for key in keys)
    assert keys == set(bench.module.get_state(inference_only=True))


def test_policy_acts_as_the_runner_also_after_saving(tmp_path: Path) -> None:
    bench = RainbowBench(small_rainbow(eval_epsilon=0.0))
    spaces = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, (4,), np.float32),
        "action_space": gym.spaces.Discrete(2),
    }
    config = bench.config
    settings = {
        "algorithm": "rainbow",
        "model": {**bench.runner.module.model_config, "auxiliary": {}},
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": config.env_settings,
        **spaces,
    }
    policy = Policy(bench.runner.module, settings)
    loaded = Policy.load(policy.save(tmp_path))
    rng = np.random.default_rng(0)
    for _ in range(20):
        obs = rng.standard_normal(4).astype(np.float32)
        action = policy.act(obs)
        assert action == loaded.act(obs)
        assert spaces["action_space"].contains(action)
        batch = {Columns.OBS: torch.from_numpy(obs)[None]}
        assert action == int(bench.runner.module.forward_inference(batch)[Columns.ACTIONS])
    assert {int(policy.act(np.zeros(4, np.float32), explore=True)) for _ in range(200)} == {0, 1}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-1, 1, (2,)),
        gym.spaces.MultiDiscrete([2, 2]),
        gym.spaces.Discrete(3, start=1),
    ],
)
def test_other_actions_are_refused(space: gym.Space) -> None:
    with pytest.raises(SpecError, match="'rainbow' needs Discrete actions that count from 0; got"):
        check_actions(space, "rainbow", "discrete")
