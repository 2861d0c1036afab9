"""Networks that SAC and DDPG share: encoders, target networks, acting, checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.networks.target_networks import TargetNetworks
from rlssl.policy import Policy
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    BOTH,
    ActorCriticBench,
    Small,
    on_pixels,
    pixel_bench,
    prefixes,
    small_ddpg,
    small_sac,
    watch_steps,
)


@BOTH
def test_actor_and_critics_read_the_same_convolutions(small: Small) -> None:
    module = pixel_bench(small).module
    convolutions = [key for key in module.state_dict() if "encoder.body" in key]
    # Once, besides those of the target network: 2 layers with a bias each.
    assert len(convolutions) == 2 * 4
    obs = torch.randint(0, 255, (5, 3, 12, 12), dtype=torch.uint8)
    features = module.features(obs)
    torch.testing.assert_close(module.critic_latents(features), module.encoder(obs))
    assert not torch.allclose(module.actor_latents(features), module.encoder(obs))
    first = module.encoder.body.encoder.layers[0].weight
    for latents, reached in ((module.actor_latents(features), False), (module.encoder(obs), True)):
        (gradient,) = torch.autograd.grad(latents.sum(), [first], allow_unused=True)
        assert (gradient is not None) == reached


@BOTH
def test_actor_has_its_own_encoder_for_vectors(small: Small) -> None:
    bench = ActorCriticBench(small())
    bench.add(bench.sample())
    steps = watch_steps(bench)
    bench.update_once()
    assert prefixes(steps[0][1]) == {"encoder", "critic"}
    assert prefixes(steps[1][1]) - {"log_alpha"} == {"actor_encoder", "actor"}
    shared = ActorCriticBench(small().model(shared_encoder=True))
    shared.add(shared.sample())
    steps = watch_steps(shared)
    shared.update_once()
    assert prefixes(steps[1][1]) - {"log_alpha"} == {"actor"}


def test_each_target_network_needs_a_tau() -> None:
    online = torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)})
    for taus in ({}, {"one": 0.0}, {"one": 1.5}, {"one": 0.1, "two": 0.1}):
        with pytest.raises(ValueError, match="taus must give"):
            TargetNetworks(online, taus)


def test_without_a_target_encoder_target_critics_read_the_online_convolutions() -> None:
    bench = pixel_bench(small_ddpg, target_encoder=False, target_actor=False)
    module = bench.module
    assert set(module.target.target.keys()) == {"critic", "projection"}
    obs = torch.randint(0, 255, (5, 3, 12, 12), dtype=torch.uint8)
    actions = torch.zeros(5, 2)
    features = module.features(obs)
    assert module.target_features(obs, features) is features
    target = module.target.target
    expected = target["critic"](target["projection"](features), actions)
    torch.testing.assert_close(module.target_values(features, actions), expected)
    assert prefixes(bench.moved_by()) >= {"encoder", "critic", "target"}
    vectors = ActorCriticBench(small_ddpg(target_encoder=False)).module
    latents = vectors.encoder(torch.zeros(5, 3))
    expected = vectors.target.target["critic"](latents, torch.zeros(5, 1))
    given = vectors.target_values(torch.zeros(5, 3), torch.zeros(5, 1))
    torch.testing.assert_close(given, expected)


def test_three_crops_are_drawn_independently() -> None:
    bench = pixel_bench(small_sac, auxiliary={"curl": {}})
    module = bench.module
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(64, 3, -1, -1)
    seen = [module.augmentation(ramp), module.next_augmentation(ramp)]
    query, key = module.auxiliary["curl"].draw_views(
        {Columns.OBS: ramp, "augmented_obs": seen[0]},
        module.auxiliary["curl"].update_rng.generator(),
    )
    assert query is seen[0]
    corners = [view[:, 0, 0, 0] for view in (*seen, key)]
    for index, one in enumerate(corners):
        # There are 25 crop positions, so 1 in 25 agrees by chance.
        for other in corners[index + 1 :]:
            assert float((one == other).float().mean()) < 0.2


@BOTH
def test_loss_that_trains_an_encoder_without_layers_is_refused(small: Small) -> None:
    config = small().model(encoder="mlp", encoder_config={"hidden": []})
    with pytest.raises(SpecError, match=r"'curl' trains the encoder, but .*hidden: \[256\]"):
        ActorCriticBench(config.auxiliary(curl={}))
    bench = ActorCriticBench(config.auxiliary(icm={}))
    bench.add(bench.sample())
    assert prefixes(bench.moved_by()) >= {"critic", "actor", "auxiliary"}


@BOTH
def test_convolutions_stay_shared_after_checkpoint_and_export(small: Small, tmp_path: Path) -> None:
    bench, other = (pixel_bench(small) for _ in range(2))
    bench.update_once()
    other.learner.set_state(bench.learner.get_state())
    sent = bench.module.get_state(inference_only=True)
    bench.runner.module.set_state(sent)
    assert set(bench.runner.module.state_dict()) == set(sent)
    assert not any(key.startswith(("critic", "target", "encoder.projection")) for key in sent)
    settings = {
        "algorithm": bench.config.algorithm_name,
        "model": {**bench.runner.module.model_config, "auxiliary": {}},
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": bench.config.env_settings,
        "observation_space": bench.runner.env.single_observation_space,
        "action_space": bench.runner.env.single_action_space,
    }
    policy = Policy(bench.runner.module, settings)
    loaded = Policy.load(policy.save(tmp_path))
    image = torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8).numpy()
    batch = {Columns.OBS: torch.from_numpy(image)[None]}
    expected = bench.module.forward_inference(batch)[Columns.ACTIONS]
    restored = other.module
    assert torch.equal(restored.forward_inference(batch)[Columns.ACTIONS], expected)
    # The environment's bounds are +-2.
    np.testing.assert_allclose(policy.act(image), 2 * expected[0].numpy(), rtol=1e-5)
    np.testing.assert_array_equal(loaded.act(image), policy.act(image))
    # The actor sees the change of the convolutions in the critics' step.
    before = restored.actor_latents(restored.features(batch[Columns.OBS][:, :, :12, :12]))
    with torch.no_grad():
        for parameter in restored.encoder.body.parameters():
            parameter.mul_(-1.0)
    after = restored.actor_latents(restored.features(batch[Columns.OBS][:, :, :12, :12]))
    assert not torch.allclose(before, after)


@BOTH
def test_first_actions_are_random_and_later_ones_from_the_policy(small: Small) -> None:
    bench = ActorCriticBench(small(random_agent_steps=100))
    module = bench.runner.module
    batch = {Columns.OBS: torch.zeros(4000, 3)}
    random = module.forward_exploration(batch, t=99)[Columns.ACTIONS]
    # Uniform in +-1: mean 0, variance 1/3; standard errors 0.009 and 0.005.
    assert float(random.mean()) == pytest.approx(0.0, abs=0.04)
    assert float(random.var()) == pytest.approx(1 / 3, abs=0.02)
    assert random.abs().max() <= 1.0
    own = module.forward_exploration(batch, t=100)[Columns.ACTIONS]
    assert abs(float(own.var()) - 1 / 3) > 0.02
    best = module.forward_inference(batch)[Columns.ACTIONS]
    assert bool((best == best[0]).all())


def test_replay_holds_actions_between_minus_one_and_one() -> None:
    bench = ActorCriticBench(small_sac(random_agent_steps=10**6))
    bench.add(bench.sample(400))
    actions = bench.draw()[Columns.ACTIONS]
    assert actions.dtype == np.float32
    # Pendulum's bounds are +-2.
    assert 0.9 < np.abs(actions).max() <= 1.0


@BOTH
def test_encoders_with_other_layers_after_their_convolutions(small: Small) -> None:
    for name, config in (
        ("small_cnn", {}),
        ("icm", {}),
        ("impala", {"channels": [4], "hidden": 8}),
    ):
        bench = ActorCriticBench(small("test/dot").model(encoder=name, encoder_config=config))
        bench.add(bench.sample())
        steps = watch_steps(bench)
        bench.update_once()
        assert "encoder" in prefixes(steps[0][1]), name
        assert prefixes(steps[1][1]) - {"log_alpha"} == {"actor_encoder", "actor"}, name


@BOTH
def test_memory_format_of_the_images_changes_no_update(small: Small) -> None:
    states = []
    for last in (False, True):
        config = on_pixels(small("test/dot", adam_epsilon=1e-4), channels_last=last)
        bench = ActorCriticBench(config)
        bench.add(bench.sample())
        for _ in range(2):
            bench.update_once()
        states.append(bench.states())
    for key, value in states[0].items():
        # Weights of layers that read feature maps may have the maps' shape.
        other = states[1][key].reshape(value.shape)
        torch.testing.assert_close(other, value, rtol=0, atol=1e-4, msg=key)


def test_layers_of_lillicrap_start_uniform_in_one_over_the_root_of_their_inputs() -> None:
    document = {"algorithm": "ddpg", "preset": "lillicrap", "env": {"id": "Pendulum-v1"}}
    module = ActorCriticBench(build_config(load_spec(document))).module
    critic, actor = module.critic.layers, module.actor.layers
    # Pendulum has 3 observed numbers and 1 action, which enters the critic's second layer.
    bounds = [
        (module.encoder.layers[0], 3**-0.5),
        (module.actor_encoder.layers[0], 3**-0.5),
        (critic[0], 401**-0.5),
        (actor[0], 400**-0.5),
        (critic[1], 3e-3),
        (actor[2], 3e-3),
    ]
    for layer, bound in bounds:
        for values in (layer.weight, layer.bias):
            largest = float(values.detach().abs().max())
            assert largest <= bound
            # The largest of n uniform numbers is at most 0.9 of the bound with probability 0.9^n:
            # less than 1e-13 for 300 numbers.
            assert values.numel() < 300 or largest > 0.9 * bound
        if layer.weight.numel() >= 1_000:
            # The standard deviation of a uniform distribution is its bound / sqrt(3).
            deviation = float(layer.weight.detach().std())
            assert deviation == pytest.approx(bound / 3**0.5, rel=0.05)
