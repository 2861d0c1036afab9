"""SAC's whole update on crops with CURL, against plain code in the published order."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.batches import to_tensors
from rlssl.networks import pixel_encoders
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    CROP,
    CROPPED,
    ActorCriticBench,
    on_pixels,
)
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small_sac as small
from tests.algorithms.rainbow.rainbow_bench import CPU

SETTINGS = {
    "n_step": 1,
    "gamma": 0.99,
    "lr": 1e-3,
    "alpha_lr": 1e-4,
    "alpha_beta1": 0.5,
    "initial_alpha": 0.1,
    "tau": 0.01,
    "encoder_tau": 0.05,
    "actor_update_every_updates": 2,
    "target_update_every_updates": 2,
    "log_std_bounds": [-10.0, 2.0],
    "log_std_mode": "tanh",
    "adam_epsilon": 1e-6,
    "auxiliary_step": "separate",
}
NAMES = ("encoder", "critic", "actor_encoder", "actor")


def encode(encoder: Any, head: Any, crops: Tensor, detach: bool = False) -> Tensor:
    """Layer by layer, channels first; ``detach``: no gradient reaches the convolutions."""
    x = crops.float() / 255.0
    for layer in encoder.body.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.contiguous()
            x = F.conv2d(x.contiguous(), weight, layer.bias, layer.stride).relu()
    x = x.reshape(len(x), -1)
    linear, norm = head
    latents = (x.detach() if detach else x) @ linear.weight.flatten(1).T + linear.bias
    return F.layer_norm(latents, latents.shape[1:], norm.weight, norm.bias)


class PlainUpdate:
    """CURL-SAC as published: separate Adams, of which two train the encoder on CURL's loss."""

    def __init__(self, module: Any) -> None:
        parts = {name: getattr(module, name) for name in NAMES}
        self.nets: Any = copy.deepcopy(nn.ModuleDict(parts))
        self.slow: Any = copy.deepcopy(module.target.target)
        self.log_alpha = nn.Parameter(module.log_alpha.detach().clone())
        self.bilinear = nn.Parameter(module.auxiliary["curl"].weight.detach().clone())
        encoder = [*self.nets["encoder"].parameters()]
        groups = {
            "critic": [*encoder, *self.nets["critic"].parameters()],
            "actor": [*self.nets["actor_encoder"].parameters(), *self.nets["actor"].parameters()],
            "encoder": encoder,
            "curl": [*encoder, self.bilinear],
        }
        self.adams = {key: torch.optim.Adam(own, 1e-3, eps=1e-6) for key, own in groups.items()}
        self.adams["alpha"] = torch.optim.Adam([self.log_alpha], 1e-4, betas=(0.5, 0.999), eps=1e-6)

    def update(
        self, batch: Any, crops: Sequence[Tensor], noises: Sequence[Tensor], *, acts: bool
    ) -> list[float]:
        """One update; returns the losses of critics, actor and CURL."""
        nets, slow, (now, after, positives) = self.nets, self.slow, crops
        with torch.no_grad():
            action, logp = self.act(after, noises[0])
            value = torch.min(*self.values(slow, after, action)) - self.log_alpha.exp() * logp
            y = batch[Columns.REWARDS] + batch["discounts"] * value
        q1, q2 = self.values(nets, now, batch[Columns.ACTIONS])
        losses = [self.step(F.mse_loss(q1, y) + F.mse_loss(q2, y), "critic")]
        if acts:
            action, logp = self.act(now, noises[1])
            value = torch.min(*self.values(nets, now, action, detach=True))
            losses.append(self.step((self.log_alpha.exp().detach() * logp - value).mean(), "actor"))
            self.step((self.log_alpha.exp() * (-logp + 2.0).detach()).mean(), "alpha")
            for name, tau in (("critic", 0.01), ("encoder", 0.05)):
                pairs = zip(slow[name].parameters(), nets[name].parameters(), strict=True)
                for mine, theirs in pairs:
                    mine.data.copy_((1 - tau) * mine + tau * theirs)
        anchors = encode(nets["encoder"], nets["encoder"].projection, now)
        keys = encode(slow["encoder"], slow["encoder"].projection, positives).detach()
        logits = anchors @ self.bilinear @ keys.T
        loss = F.cross_entropy(logits, torch.arange(len(logits)))
        return [*losses, self.step(loss, "encoder", "curl")]

    def act(self, crops: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and their log-probabilities."""
        latents = encode(self.nets["encoder"], self.nets["actor_encoder"], crops, detach=True)
        mean, log_std = self.nets["actor"](latents)
        before = mean + log_std.exp() * noise
        logp = torch.distributions.Normal(mean, log_std.exp()).log_prob(before)
        logp = logp - torch.log(1 - before.tanh() ** 2 + 1e-12)
        return before.tanh(), logp.sum(dim=1)

    def values(
        self, nets: Any, crops: Tensor, actions: Tensor, detach: bool = False
    ) -> list[Tensor]:
        """The values of each critic separately."""
        latents = encode(nets["encoder"], nets["encoder"].projection, crops, detach)
        values, layers = [], list(nets["critic"].layers)
        for index in range(2):
            x = torch.cat([latents, actions], dim=1)
            for layer in layers:
                x = x @ layer.weight[index] + layer.bias[index]
                x = x.relu() if layer is not layers[-1] else x
            values.append(x[:, 0])
        return values

    def step(self, loss: Tensor, *names: str) -> float:
        """A step of some Adams; returns the loss."""
        for adam in self.adams.values():
            adam.zero_grad()
        loss.backward()
        for name in names:
            self.adams[name].step()
        return loss.item()


def test_updates_equal_plain_code_in_the_published_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # The limit makes the convolutions process the 32 crops in pieces of 5 and 2.
    monkeypatch.setattr(pixel_encoders, "_PIECE_PIXELS", 5 * CROP**2)
    config = on_pixels(small("test/dot", **SETTINGS), augmentation=CROPPED)
    bench = ActorCriticBench(config.auxiliary(curl={"variant": "dmc", "double_encoder_step": True}))
    bench.add(bench.sample())
    module, learner = bench.module, bench.learner
    with torch.no_grad():
        # Makes the target networks different from the online networks.
        for parameter in module.target.parameters():
            parameter.mul_(1.1)
    plain = PlainUpdate(module)
    for count in (1, 2, 3, 4):
        acts = count % 2 == 0
        drawn = bench.draw()
        batch = to_tensors(drawn, CPU)
        crops = crops_of_next_update(module, batch)
        generator = module.update_rng.generator()
        noises = [torch.randn(32, 2, generator=generator) for _ in range(2)]
        learner.update_on(drawn, agent_steps=64)
        keys = [("critic_loss",), *([("actor_loss",)] if acts else []), ("aux", "curl", "info_nce")]
        losses = [float(learner.latest_metrics[key]) for key in keys]
        assert losses == pytest.approx(plain.update(batch, crops, noises, acts=acts), rel=1e-5)
    for name in NAMES:
        assert_same_state(getattr(module, name), plain.nets[name])
    assert_same_state(module.target.target, plain.slow)
    torch.testing.assert_close(module.log_alpha, plain.log_alpha, rtol=0, atol=1e-6)
    torch.testing.assert_close(module.auxiliary["curl"].weight, plain.bilinear, rtol=0, atol=1e-5)


def crops_of_next_update(module: Any, batch: Any) -> list[Tensor]:
    """Crops of the observations, of the next observations, and of CURL's keys."""
    now = module.augmentation(batch[Columns.OBS])
    curl = module.auxiliary["curl"]
    positives = curl.views(batch[Columns.OBS], curl.update_rng.generator(), like=now)
    return [now, module.next_augmentation(batch[Columns.NEXT_OBS]), positives]


def assert_same_state(learned: nn.Module, plain: nn.Module) -> None:
    own = learned.state_dict()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=1e-5, msg=key)
