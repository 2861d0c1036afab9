"""What latent losses need from a Learner: mean actions, isolation, combined losses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.common.auxiliary_learner import trainable, without_gradient
from rlssl.algorithms.common.mean_actions import mean_actions
from rlssl.errors import SpecError
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    CROPPED,
    ActorCriticBench,
    on_pixels,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

PAPER = {"variant": "paper"}


def test_mean_action_of_discrete_ppo_is_its_probabilities() -> None:
    bench = Bench(small_ppo().auxiliary(bisimulation=PAPER))
    batch = bench.batch(bench.sample())
    before = torch.get_rng_state()
    found = mean_actions(bench.module, batch[Columns.OBS])
    assert torch.equal(before, torch.get_rng_state()) and not found.requires_grad
    logits = bench.module.pi(bench.module.encoder(batch[Columns.OBS]))
    torch.testing.assert_close(found, logits.softmax(-1).detach())


def test_mean_action_of_continuous_ppo_is_the_mean_within_the_bounds() -> None:
    bench = Bench(small_ppo("Pendulum-v1").auxiliary(bisimulation=PAPER))
    obs = bench.batch(bench.sample())[Columns.OBS]
    with torch.no_grad():
        bench.module.pi.mean.bias.fill_(5.0)
    found = mean_actions(bench.module, obs)
    assert found.shape == (len(obs), 1) and torch.equal(found, torch.ones_like(found))
    with torch.no_grad():
        bench.module.pi.mean.bias.fill_(0.25)
        expected = bench.module.pi.mean(bench.module.encoder(obs))
    torch.testing.assert_close(mean_actions(bench.module, obs), expected)


def test_mean_action_of_rainbow_is_its_best_action() -> None:
    bench = RainbowBench(small_rainbow().auxiliary(bisimulation=PAPER))
    obs = bench.batch(bench.sample())[Columns.OBS]
    module = bench.module
    before = torch.get_rng_state()
    found = mean_actions(module, obs)
    assert torch.equal(before, torch.get_rng_state())
    best = module.values(module.head(module.encoder(obs))).argmax(1)
    assert torch.equal(found, torch.eye(2)[best])


def test_module_may_define_its_mean_action() -> None:
    class Own:
        def mean_actions(self, obs: torch.Tensor) -> torch.Tensor:
            return obs + 1.0

    assert mean_actions(Own(), torch.zeros(2, 1)).tolist() == [[1.0], [1.0]]


def test_canceled_gradient_leaves_other_gradients() -> None:
    x, y = (torch.tensor([2.0], requires_grad=True) for _ in range(2))
    loss = without_gradient((x * y).sum(), [x])
    assert loss.item() == 4.0
    loss.backward()
    assert x.grad is not None and x.grad.item() == 0.0
    assert y.grad is not None and y.grad.item() == 2.0


#: A Learner without a loss, of every algorithm.
ISOLATED: dict[str, tuple[Callable[[Any], Bench], Callable[[], Any]]] = {
    "ppo": (Bench, lambda: small_ppo(num_epochs=1).model(shared_encoder=True)),
    "a3c": (A3CBench, lambda: small_a3c().model(shared_encoder=True)),
    "rainbow": (RainbowBench, small_rainbow),
    "rainbow, in priorities": (
        RainbowBench,
        lambda: small_rainbow(auxiliary_in_priorities=True),
    ),
    "sac": (ActorCriticBench, small_sac),
    "sac, pixels": (ActorCriticBench, lambda: on_pixels(small_sac("test/dot"))),
    "ddpg": (ActorCriticBench, small_ddpg),
    "ddpg, pixels": (
        ActorCriticBench,
        lambda: on_pixels(small_ddpg("test/dot", target_encoder=False, reuse_features=True)),
    ),
}


@pytest.mark.parametrize("name", ["bisimulation", "curl", "deepmdp"])
@pytest.mark.parametrize("algorithm", ISOLATED)
def test_isolated_encoder_learns_only_from_the_losses(algorithm: str, name: str) -> None:
    moved = {}
    for isolated in (True, False):
        bench_of, small = ISOLATED[algorithm]
        bench = bench_of(small().auxiliary(**{name: {"isolated": isolated, "coeff": 0.0}}))
        encoder = [p.detach().clone() for p in trainable(bench.module.encoder)]
        heads = [p.detach().clone() for p in head_of(bench.module)]
        bench.update(bench.sample())
        change = [
            float((new.detach() - old).abs().max())
            for new, old in zip(trainable(bench.module.encoder), encoder, strict=True)
        ]
        moved[isolated] = max(change)
        assert not all(map(torch.equal, list(head_of(bench.module)), heads))
    # The loss has coefficient 0, so the encoder must not change.
    assert moved[True] == 0.0 < moved[False]


@pytest.mark.parametrize("loss, augmentation", [("deepmdp", None), ("curl", CROPPED)])
@pytest.mark.parametrize(
    "bench_of, small", [(Bench, small_ppo), (ActorCriticBench, small_sac)], ids=["ppo", "sac"]
)
def test_isolated_encoder_gets_no_rounding_error_of_a_large_rl_loss(
    bench_of: Callable[[Any], Bench],
    small: Callable[..., Any],
    loss: str,
    augmentation: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In a shared pass, bfloat16 would round the sum of both gradients, with an error of 2^-8 of the
    # larger one.
    def first_gradients(scale: float) -> list[torch.Tensor]:
        config = on_pixels(small("test/dot"), augmentation=augmentation)
        bench = bench_of(config.model(precision="bfloat16").auxiliary(**{loss: {"isolated": True}}))
        learner: Any = bench.learner
        rl_loss, clip = learner.compute_rl_loss, learner._clip
        seen: list[list[torch.Tensor]] = []

        def watched(parameters: Any) -> bool:
            reached = [p.grad for p in trainable(bench.module.encoder) if p.grad is not None]
            seen.append([gradient.clone() for gradient in reached])
            return bool(clip(parameters))

        monkeypatch.setattr(learner, "compute_rl_loss", lambda *given: scale * rl_loss(*given))
        monkeypatch.setattr(learner, "_clip", watched)
        bench.update(bench.sample())
        return seen[0]

    alone, beside = first_gradients(0.0), first_gradients(100.0)
    assert alone and len(alone) == len(beside)
    for expected, found in zip(alone, beside, strict=True):
        largest = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * largest)


def head_of(module: Any) -> list[torch.Tensor]:
    (name,) = {"pi", "head", "critic"} & {child for child, _ in module.named_children()}
    return [parameter.detach() for parameter in getattr(module, name).parameters()]


def test_augmentation_only_trains_as_without_the_loss_bit_for_bit() -> None:
    states, starts = [], []
    for losses in ({}, {"curl": {"augmentation_only": True}}):
        config = on_pixels(small_sac("test/dot"), augmentation=CROPPED).auxiliary(**losses)
        bench = ActorCriticBench(config)
        starts.append(bench.states())
        for _ in range(2):
            bench.update(bench.sample())
        states.append(bench.states())
    weight = "auxiliary.curl.weight"
    assert not torch.equal(states[1][weight], starts[1][weight])
    own = {key for key in states[1] if key.startswith("auxiliary.")}
    assert own == states[1].keys() - states[0].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


def test_augmentation_only_needs_an_augmentation() -> None:
    config = on_pixels(small_sac("test/dot")).auxiliary(curl={"augmentation_only": True})
    with pytest.raises(SpecError) as error:
        config.validate()
    assert str(error.value) == (
        "auxiliary.curl.augmentation_only=True needs an augmentation of the RL loss's "
        "observations, and there is none: set model.augmentation (shift, crop), or leave "
        "augmentation_only out."
    )


@pytest.mark.parametrize("small", [small_sac, small_ddpg], ids=["sac", "ddpg"])
def test_isolated_encoder_needs_the_joint_step(small: Callable[..., Any]) -> None:
    losses = {"curl": {}, "deepmdp": {"isolated": True}}
    config = on_pixels(small("test/dot", auxiliary_step="separate")).auxiliary(**losses)
    with pytest.raises(SpecError) as error:
        config.validate()
    assert str(error.value) == (
        "auxiliary.deepmdp.isolated needs training.auxiliary_step: joint, in which one step can "
        "leave out the RL loss's gradient; got 'separate'."
    )
