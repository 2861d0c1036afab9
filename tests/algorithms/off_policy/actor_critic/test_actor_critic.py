"""What SAC and DDPG share: which loss trains which network, target networks, acting."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.off_policy.actor_critic.config import check_actions
from rlssl.errors import SpecError
from rlssl.networks.shared_encoder import SharedEncoder
from rlssl.networks.target_networks import TargetNetworks
from rlssl.policy import Policy
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    CROPPED,
    ActorCriticBench,
    on_pixels,
    small_ddpg,
    small_sac,
)

BOTH = pytest.mark.parametrize("small", [small_sac, small_ddpg], ids=["sac", "ddpg"])
Small = Callable[..., Any]


def pixel_bench(small: Small, augmentation: Any = CROPPED, **training: Any) -> ActorCriticBench:
    losses = training.pop("auxiliary", {})
    config = on_pixels(small("test/dot", **training), augmentation=augmentation)
    bench = ActorCriticBench(config.auxiliary(**losses))
    bench.add(bench.sample())
    return bench


def watch_steps(bench: ActorCriticBench) -> list[tuple[list[str], set[str]]]:
    """A list that gets, for each optimizer step, its optimizers and the state keys it changed."""
    steps: list[tuple[list[str], set[str]]] = []
    optimizer_step = bench.learner.optimizer_step

    def watched(loss: Any, optimizers: Any) -> bool:
        before = bench.states()
        done = optimizer_step(loss, optimizers)
        after = bench.module.state_dict()
        moved = {key for key, value in before.items() if not value.equal(after[key])}
        steps.append((list(optimizers), moved))
        return done

    bench.learner.optimizer_step = watched  # type: ignore[method-assign]
    return steps


def prefixes(keys: set[str], depth: int = 1) -> set[str]:
    return {".".join(key.split(".")[:depth]) for key in keys}


@BOTH
def test_actor_step_changes_its_own_layers_but_no_convolution(small: Small) -> None:
    bench = pixel_bench(small, actor_update_every_updates=1)
    assert isinstance(bench.module.encoder, SharedEncoder)
    steps = watch_steps(bench)
    bench.update_once()
    (_, of_critics), (names, of_actor) = steps
    assert names[0] == "actor"
    assert {"encoder.body", "encoder.projection", "critic.layers"} <= prefixes(of_critics, 2)
    assert prefixes(of_critics) == {"encoder", "critic"}
    # The linear layer and the LayerNorm after the convolutions, and the policy.
    own = {"actor_encoder.0.weight", "actor_encoder.1.weight", "actor.layers.0.weight"}
    assert own <= of_actor
    assert prefixes(of_actor) - {"log_alpha"} == {"actor_encoder", "actor"}


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


@BOTH
def test_target_networks_move_every_few_updates_by_two_taus(small: Small) -> None:
    bench = pixel_bench(
        small,
        tau=0.1,
        encoder_tau=0.4,
        actor_update_every_updates=3,
        target_update_every_updates=2,
    )
    steps = watch_steps(bench)
    for count in range(1, 7):
        before = {k: v.clone() for k, v in bench.module.target.target.state_dict().items()}
        del steps[:]
        bench.update_once()
        assert [names[0] for names, _ in steps] == ["critic", "actor"][: 2 if count % 3 == 0 else 1]
        online, after = bench.module.state_dict(), bench.module.target.target.state_dict()
        for key, value in before.items():
            tau = 0.4 if key.startswith("encoder.") else 0.1
            expected = value if count % 2 else (1 - tau) * value + tau * online[key]
            torch.testing.assert_close(after[key], expected, rtol=0, atol=1e-6, msg=key)
    assert bench.module.update_rng.num_updates == 6


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


@BOTH
def test_reused_features_are_from_before_the_critics_step(small: Small) -> None:
    seen: dict[bool, Any] = {}
    for reuse in (True, False):
        bench = pixel_bench(small, reuse_features=reuse)
        module, batch = bench.module, bench.draw()
        crop = module.augmentation(torch.from_numpy(batch[Columns.OBS]))
        before = module.features(crop).detach().clone()
        losses = bench.learner.actor_losses
        bench.learner.actor_losses = lambda features, *rest: (  # type: ignore[method-assign]
            seen.update({reuse: features.clone()}) or losses(features, *rest)  # noqa: B023
        )
        bench.learner.update_on(batch, agent_steps=64)
        after = module.features(crop).detach()
        assert not torch.allclose(before, after, atol=1e-4)
        torch.testing.assert_close(seen[reuse], before if reuse else after)


def test_order_of_steps_is_that_of_curls_code() -> None:
    bench = pixel_bench(small_sac, auxiliary={"curl": {}}, auxiliary_step="separate")
    module = bench.module
    curl = module.auxiliary["curl"]
    assert curl.key_encoder is module.target.target["encoder"]
    assert curl.own_key_encoder is None
    happened: list[str] = []
    optimizer_step, move, losses = bench.learner.optimizer_step, module.target.move, curl.losses
    views: list[Any] = []

    def record(name: str, function: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            happened.append(args[1][0] if name == "step" else name)
            return function(*args, **kwargs)

        return called

    def looked(batch: Any) -> Any:
        views.append((batch, [p.clone() for p in module.encoder.parameters()]))
        return losses(batch)

    bench.learner.optimizer_step = record("step", optimizer_step)  # type: ignore[method-assign]
    module.target.move = record("targets", move)
    curl.losses = record("look", looked)
    drawn = bench.draw()
    start = [p.clone() for p in module.encoder.parameters()]
    bench.learner.update_on(drawn, agent_steps=64)
    assert happened == ["critic", "actor", "targets", "look", "encoder"]
    batch, weights = views[0]
    # The anchor is the critics' view; the loss encodes it after the critics' step.
    assert batch["augmented_obs"].shape == (32, 3, 12, 12)
    assert not any(map(torch.equal, weights, start))
    assert not any(map(torch.equal, weights, module.encoder.parameters()))


def test_three_crops_are_drawn_independently() -> None:
    bench = pixel_bench(small_sac, auxiliary={"curl": {}})
    module = bench.module
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(64, 3, -1, -1)
    seen = [module.augmentation(ramp), module.next_augmentation(ramp)]
    query, key = module.auxiliary["curl"]._views(
        {Columns.OBS: ramp, "augmented_obs": seen[0]},
        module.auxiliary["curl"].update_rng.generator(),
    )
    assert query is seen[0]
    corners = [view[:, 0, 0, 0] for view in (*seen, key)]
    for index, one in enumerate(corners):
        # There are 25 crop positions, so 1 in 25 agrees by chance.
        for other in corners[index + 1 :]:
            assert float((one == other).float().mean()) < 0.2


@pytest.mark.parametrize("doubled", [False, True])
def test_encoder_step_for_curl_equals_one_adam_or_two(doubled: bool) -> None:
    options = {"double_encoder_step": doubled}
    bench = pixel_bench(small_sac, auxiliary={"curl": options}, auxiliary_step="separate")
    module, optimizer_step = bench.module, bench.learner.optimizer_step
    adams = [
        torch.optim.Adam([torch.nn.Parameter(p.detach().clone())], lr=1e-3)
        for p in module.encoder.parameters()
    ]
    checked = []

    def watched(loss: Any, optimizers: Any) -> bool:
        before = [p.detach().clone() for p in module.encoder.parameters()]
        done = optimizer_step(loss, optimizers)
        if optimizers[0] == "encoder":
            for adam, old, new in zip(adams, before, module.encoder.parameters(), strict=True):
                (copy,) = adam.param_groups[0]["params"]
                copy.data, copy.grad = old.clone(), new.grad.clone()
                # Two optimizers with the same gradients have the same moments.
                state = {k: v.clone() for k, v in adam.state[copy].items()}
                adam.step()
                if doubled:
                    if state:
                        adam.state[copy].update(state)
                    else:
                        adam.state.pop(copy)
                    adam.step()
                torch.testing.assert_close(new, copy, rtol=0, atol=1e-6)
                checked.append(True)
        return done

    bench.learner.optimizer_step = watched  # type: ignore[method-assign]
    for _ in range(3):
        bench.update_once()
    assert len(checked) == 3 * len(adams)


def test_double_encoder_step_needs_a_separate_step_and_a_target_encoder() -> None:
    losses = {"curl": {"double_encoder_step": True}}
    with pytest.raises(SpecError, match=r"needs training\.auxiliary_step: separate"):
        on_pixels(small_sac("test/dot")).auxiliary(**losses).validate()
    config = small_ddpg(target_encoder=False, auxiliary_step="separate").auxiliary(**losses)
    with pytest.raises(SpecError, match="needs an algorithm whose target critic has an encoder"):
        ActorCriticBench(config)


@BOTH
@pytest.mark.parametrize("step", ["joint", "separate"])
@pytest.mark.parametrize("augmentation", [CROPPED, None], ids=["crops", "raw"])
def test_zero_coefficient_equals_no_loss_on_pixels(
    small: Small, step: str, augmentation: Any
) -> None:
    states = []
    zero: dict[str, Any] = {"curl": {"coeff": 0.0}, "icm": {"coeff": 0.0, "intrinsic_coeff": 0.0}}
    cases: list[dict[str, Any]] = [{}, zero]
    for losses in cases:
        bench = pixel_bench(small, augmentation, auxiliary=losses, auxiliary_step=step)
        for _ in range(3):
            bench.update_once()
        states.append({k: v for k, v in bench.states().items() if not k.startswith("auxiliary")})
    assert states[0].keys() == states[1].keys()
    assert [key for key, value in states[0].items() if not value.equal(states[1][key])] == []


@BOTH
@pytest.mark.parametrize("step", ["joint", "separate"])
def test_auxiliary_loss_changes_the_critics_encoder(small: Small, step: str) -> None:
    cases: list[dict[str, Any]] = [{"curl": {}}, {}]
    with_loss, without = (
        pixel_bench(small, auxiliary=losses, auxiliary_step=step) for losses in cases
    )
    for bench in (with_loss, without):
        bench.update_once()
    first = "encoder.body.encoder.layers.0.weight"
    assert not with_loss.states()[first].equal(without.states()[first])
    assert {"info_nce", "accuracy"} <= with_loss.learner.report()["default_policy"]["aux"][
        "curl"
    ].keys()


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


@pytest.mark.parametrize(
    "space, message",
    [
        (gym.spaces.Discrete(3), "got Discrete\\(3\\). Choose an algorithm for discrete actions"),
        (gym.spaces.Box(-1, 1, (2, 2)), "a floating Box of one dimension; got Box.*Flatten"),
        (gym.spaces.Box(0, 5, (2,), np.int64), "a floating Box of one dimension"),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), "needs actions with finite bounds"),
    ],
)
def test_other_actions_are_refused(space: gym.Space, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_actions(space, "sac")


@BOTH
def test_discrete_actions_are_refused_before_anything_starts(small: Small) -> None:
    with pytest.raises(SpecError, match="needs continuous actions"):
        small("CartPole-v1").validate()


@BOTH
def test_priorities_are_the_mean_sizes_of_the_critics_errors(small: Small) -> None:
    bench = ActorCriticBench(small(num_critics=2, replay={"prioritized": True}))
    bench.add(bench.sample())
    assert bench.replay.kind == "prioritized"
    outputs: list[Any] = []
    compute = bench.learner.compute_rl_loss

    def watched(batch: Any, fwd_out: Any) -> Any:
        outputs.append(fwd_out)
        return compute(batch, fwd_out)

    bench.learner.compute_rl_loss = watched  # type: ignore[method-assign]
    errors = bench.update_once()
    (out,) = outputs
    by_hand = ((out["values"] - out["targets"]).abs().sum(dim=0) / 2).detach()
    np.testing.assert_allclose(errors, by_hand, rtol=1e-5)
    assert ActorCriticBench(small()).replay.kind == "uniform"


@BOTH
def test_importance_weights_scale_the_critics_loss(small: Small) -> None:
    bench = ActorCriticBench(small())
    values, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.0, 2.0])
    batch = {"weights": torch.tensor([1.0, 0.5])}
    loss = bench.learner.compute_rl_loss(batch, {"values": values, "targets": targets})
    # Row 1: 1 + 9; row 2: 0 + 4, by a half: mean 6.
    assert loss.item() == pytest.approx(6.0)
    # Row 1: (1 + 3) / 2; row 2: (0 + 2) / 2.
    assert bench.learner.td_errors.tolist() == [2.0, 1.0]


@BOTH
def test_nonfinite_update_changes_nothing(small: Small) -> None:
    bench = ActorCriticBench(small())
    bench.add(bench.sample())
    batch, before = bench.draw(), bench.states()
    batch[Columns.REWARDS][0] = np.nan
    bench.learner.update_on(batch, agent_steps=64)
    assert [key for key, value in bench.states().items() if not value.equal(before[key])] == []
    assert bench.learner.num_nonfinite_updates == 1
    bench.update_once()
    assert bench.learner.num_nonfinite_updates == 0


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
