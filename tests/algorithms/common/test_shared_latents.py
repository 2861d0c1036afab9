"""Auxiliary losses reuse the RL loss's latents, with the same results."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary import AuxiliaryLoss
from rlssl.auxiliary.base import RL_LATENTS
from rlssl.networks.augmentation import AUGMENTED_OBS
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

MASKED = {"mask_terminals": True}
CASES: dict[str, tuple[Callable[[], Bench], int]] = {
    # Case -> bench, and the number of encoder passes that sharing saves in an update.
    "ppo": (lambda: Bench(small_ppo().auxiliary(deepmdp=MASKED)), 4),
    "ppo-recurrent": (
        lambda: Bench(small_ppo().model(lstm={"hidden": 8}).auxiliary(deepmdp={})),
        4,
    ),
    "ppo-icm": (lambda: Bench(small_ppo().auxiliary(icm={"features": "shared"})), 4),
    "ppo-two": (lambda: Bench(small_ppo().auxiliary(deepmdp={}, bisimulation={})), 8),
    "ppo-own": (lambda: Bench(small_ppo().auxiliary(deepmdp={"features": "own"})), 0),
    "ppo-views": (
        lambda: Bench(on_pixels(small_ppo("test/dot"), augmentation=CROPPED).auxiliary(curl={})),
        4,
    ),
    "a3c": (lambda: A3CBench(small_a3c().auxiliary(deepmdp={})), 1),
    "rainbow": (lambda: RainbowBench(small_rainbow().auxiliary(bisimulation={})), 2),
    "rainbow-other-rows": (
        lambda: RainbowBench(
            small_rainbow(replay={"uniform_for_auxiliary": True}).auxiliary(deepmdp={})
        ),
        0,
    ),
    "sac": (lambda: ActorCriticBench(small_sac().auxiliary(deepmdp={})), 2),
    # Nothing to share: the critics' step is between the two passes.
    "sac-separate": (
        lambda: ActorCriticBench(small_sac(auxiliary_step="separate").auxiliary(deepmdp={})),
        0,
    ),
    # Nothing to share: an isolated loss needs its own pass.
    "ddpg-isolated": (
        lambda: ActorCriticBench(small_ddpg().auxiliary(deepmdp={"isolated": True})),
        0,
    ),
}


def encode_again(self: AuxiliaryLoss, batch: dict[str, Any], column: str = Columns.OBS) -> Tensor:
    encoded: Tensor = self.encoder(batch[column])
    return encoded


def updated(build: Callable[[], Bench]) -> tuple[dict[str, Tensor], int]:
    """The state after an update, and the number of encoder calls."""
    bench = build()
    episodes = bench.sample()
    calls: list[None] = []
    bench.module.encoder.register_forward_hook(lambda *_: calls.append(None))
    bench.update(episodes)
    return bench.module.state_dict(), len(calls)


@pytest.mark.parametrize("case", CASES)
def test_sharing_saves_encoder_passes_and_changes_nothing(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, saved = CASES[case]
    ours, num_calls = updated(build)
    monkeypatch.setattr(AuxiliaryLoss, "latents", encode_again)
    plain, num_plain_calls = updated(build)
    assert num_plain_calls - num_calls == saved
    for key, value in plain.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_padding_is_removed_from_shared_latents() -> None:
    bench = Bench(small_ppo().auxiliary(deepmdp={}))
    batch = bench.batch(bench.sample())
    mask = torch.arange(len(batch[Columns.ACTIONS])) % 3 > 0
    masked = {**batch, Columns.LOSS_MASK: mask}
    latents = bench.module.encoder(batch[Columns.OBS])
    parameters = list(bench.module.encoder.parameters())
    gradients = []
    for given in (masked, {**masked, RL_LATENTS: latents}):
        loss = bench.learner.compute_auxiliary_loss(given)
        gradients.append(torch.autograd.grad(loss, parameters))
    for plain, shared in zip(*gradients, strict=True):
        torch.testing.assert_close(shared, plain)


def test_latents_are_reused_only_for_the_rl_losss_own_view() -> None:
    bench = Bench(small_ppo().auxiliary(deepmdp={}))
    loss = bench.module.auxiliary["deepmdp"]
    batch = bench.batch(bench.sample())
    shared = torch.zeros(len(batch[Columns.OBS]), loss.encoder.output_dim)
    given = {**batch, RL_LATENTS: shared}
    assert loss.latents(given) is shared
    shared.requires_grad_()
    with torch.no_grad():
        assert not loss.latents(given).requires_grad
    encoded = loss.encoder(batch[Columns.OBS])
    assert torch.equal(loss.latents({**given, AUGMENTED_OBS: shared}), encoded)
    assert torch.equal(loss.latents(batch), encoded)
    assert torch.equal(loss.latents(given, Columns.NEXT_OBS), loss.encoder(batch[Columns.NEXT_OBS]))
