"""SPR's part of an update: the loss, its gradients, its step and its targets, against plain torch.

Both get the same batches of windows, drawn beforehand, and do the same work: encode the rows, roll
the latent 5 steps forward, project and predict, encode the 5 frames after each row by the target
network, the cosine distance, one Adam for the encoder and one for the heads, the moving average of
the targets. "plain" is written out here, with torch's own modules and no checks.

- vectors: 17 features, batch 256, an encoder of 256 x 256 and `variant: latent`.
- pixels: stacks of 4 x 84 x 84, batch 32, the convolutions of data-efficient Rainbow and
  `variant: code`, without augmentation.
"""

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat

STEPS, ACTIONS, HIDDEN, LR = 5, 6, 256, 1e-4
VECTORS = gym.spaces.Box(-np.inf, np.inf, (17,), np.float32)
PIXELS = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
NUM_BATCHES = 8


def batches(pixels: bool) -> list[dict[str, Tensor]]:
    """Windows of random observations; one in ten windows ends early."""
    generator = torch.Generator().manual_seed(0)
    rows = 32 if pixels else 256
    found = []
    for _ in range(NUM_BATCHES):
        if pixels:
            shape = (rows, STEPS + 1, 4, 84, 84)
            obs = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        else:
            obs = torch.randn(rows, STEPS + 1, 17, generator=generator)
        length = torch.where(torch.rand(rows, generator=generator) < 0.1, 2, STEPS)
        found.append(
            {
                "obs": obs,
                "actions": torch.randint(ACTIONS, (rows, STEPS + 1), generator=generator),
                "valid": torch.arange(STEPS + 1) <= length[:, None],
            }
        )
    return found


def rlssl(seconds: float, *, pixels: bool) -> Play:
    """The loss of rlssl, as a Learner calls it."""
    from rlssl.auxiliary.predictive.spr import SPR
    from rlssl.networks.encoders import build_encoder
    from rlssl.networks.heads import FirstLayers, QHead

    torch.manual_seed(0)
    space = PIXELS if pixels else VECTORS
    encoder = build_encoder(space, *_encoder(pixels))
    given: dict[str, Any] = {}
    if pixels:
        head = QHead(encoder.output_dim, ACTIONS, num_atoms=51, dueling=True, hidden=(HIDDEN,))
        given["rl_projection"] = FirstLayers(head)
    config = SPR.Config(variant="code" if pixels else "latent", steps=STEPS, hidden=HIDDEN)
    loss = SPR(
        config,
        encoder=encoder,
        observation_space=space,
        action_space=gym.spaces.Discrete(ACTIONS),
        **given,
    )
    shared = [*encoder.parameters(), *(given["rl_projection"].parameters() if given else ())]
    trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    return _updates(
        seconds,
        pixels,
        lambda batch: loss.losses(batch)["prediction"],
        shared,
        trained,
        loss.after_update,
    )


def plain(seconds: float, *, pixels: bool) -> Play:
    """The same in torch's modules."""
    torch.manual_seed(0)
    network = _Plain(pixels)
    return _updates(seconds, pixels, network.loss, network.shared, network.heads, network.follow)


def _updates(
    seconds: float,
    pixels: bool,
    loss: Callable[[Any], Tensor],
    shared: list[Any],
    heads: list[Any],
    after: Callable[[], None],
) -> Play:
    optimizers = [torch.optim.Adam(group, LR, fused=True) for group in (shared, heads)]
    turns = itertools.cycle(batches(pixels))

    def update() -> int:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss(next(turns)).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        after()
        return 1

    return repeat(update, seconds)


def _encoder(pixels: bool) -> tuple[str, dict[str, Any]]:
    return ("data_efficient", {}) if pixels else ("mlp", {"hidden": [HIDDEN, HIDDEN]})


class _Plain(nn.Module):
    """Encoder, transition, projection, predictor, and the two targets."""

    def __init__(self, pixels: bool) -> None:
        super().__init__()
        self.pixels = pixels
        if pixels:
            self.encoder: nn.Module = nn.Sequential(
                nn.Conv2d(4, 32, 5, 5), nn.ReLU(), nn.Conv2d(32, 64, 5, 5), nn.ReLU()
            )
            self.transition: nn.Module = nn.Sequential(
                nn.Conv2d(64 + ACTIONS, 64, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(64),
                nn.Conv2d(64, 64, 3, padding=1),
                nn.ReLU(),
            )
            self.projection, width = nn.Linear(576, 2 * HIDDEN), 2 * HIDDEN
        else:
            self.encoder = nn.Sequential(
                nn.Linear(17, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()
            )
            self.transition = nn.Sequential(
                nn.Linear(HIDDEN + ACTIONS, HIDDEN),
                nn.LayerNorm(HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, HIDDEN),
            )
            self.projection, width = nn.Linear(HIDDEN, HIDDEN), HIDDEN
        self.predictor = nn.Linear(width, width)
        self.targets = copy.deepcopy(nn.ModuleList([self.encoder, self.projection]))
        own: list[nn.Module] = [self.transition, self.predictor]
        shared: list[nn.Module] = [self.encoder]
        (shared if pixels else own).append(self.projection)
        self.shared = [p for part in shared for p in part.parameters()]
        self.heads = [p for part in own for p in part.parameters()]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """[N], the sum over the steps."""
        obs, valid = batch["obs"], batch["valid"]
        actions = F.one_hot(batch["actions"], ACTIONS).float()
        latent, rolled = self._scaled(self.encoder(self._input(obs[:, 0]))), []
        for k in range(STEPS):
            action = actions[:, k]
            if self.pixels:
                action = action[:, :, None, None].expand(-1, -1, *latent.shape[2:])
            latent = self.transition(torch.cat([latent, action], dim=1))
            if self.pixels:
                latent = self._scaled(latent)
            rolled.append(latent.flatten(1))
        predicted = self.predictor(self.projection(torch.cat(rolled)))
        with torch.no_grad():
            encoder, projection = self.targets
            after = self._scaled(encoder(self._input(obs[:, 1:].transpose(0, 1).flatten(0, 1))))
            target = projection(after.flatten(1))
        cosine = (F.normalize(predicted, dim=1) * F.normalize(target, dim=1)).sum(dim=1)
        distance = (2 - 2 * cosine).view(STEPS, -1).t()
        return torch.where(valid[:, 1:], distance, 0.0).sum(dim=1)

    @torch.no_grad()
    def follow(self) -> None:
        """The moving average of the targets."""
        online: list[Tensor] = [*self.encoder.parameters(), *self.projection.parameters()]
        targets: list[Tensor] = list(self.targets.parameters())
        torch._foreach_lerp_(targets, online, 0.01)

    def _input(self, obs: Tensor) -> Tensor:
        return obs.float().mul_(1 / 255) if self.pixels else obs

    def _scaled(self, maps: Tensor) -> Tensor:
        if not self.pixels:
            return maps
        rows = maps.flatten(1)
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        return ((rows - low) / (high - low)).view_as(maps)


ROWS = tuple(
    Row(
        f"spr_{name}",
        f"SPR's loss, gradients and step, {words}, one thread",
        "updates",
        (
            Contestant("rlssl", partial(rlssl, pixels=pixels), threads=1),
            Contestant("plain", partial(plain, pixels=pixels), threads=1),
        ),
        # At most 1.05 of the time.
        (Comparison(("rlssl",), ("plain",), must_reach=0.95),),
    )
    for name, words, pixels in (
        ("vectors", "17 features, batch 256", False),
        ("pixels", "4 x 84 x 84, batch 32", True),
    )
)
