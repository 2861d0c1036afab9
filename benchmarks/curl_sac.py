"""CURL-SAC's update on pixels: 9 x 84 x 84 crops, batch 128, networks of 1,024.

A unit is an update: draw a batch, make three crops, step the critics, step actor, temperature and
targets in every second update, step CURL. Order and sizes are the published ones for every
contestant, with two threads of torch.

- "published" is that order in plain torch. In "published, memory kept" freed memory also stays with
  the process, as `rlssl train` sets it.
- rlssl draws from `rlssl.replay`, as in `rlssl train`, and checks for NaN, computes norms and
  metrics; the published order does not. rlssl computes the features of the critics' crops once for
  actor and CURL. It steps the encoder once for CURL; published code steps it twice.
"""

import copy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat
from benchmarks.off_policy import filled_replay, follow, learner_of, relu_mlp

FRAME = gym.spaces.Box(0, 255, (3, 100, 100), np.uint8)
ACTIONS = gym.spaces.Box(-1.0, 1.0, (6,), np.float32)
FRAMES, CROP, NUM_STEPS, LATENT, HIDDEN = 3, 84, 2_000, 50, 1024
GAMMA, TAU, ENCODER_TAU = 0.99, 0.01, 0.05
LEARNING_RATE, ALPHA_LEARNING_RATE = 1e-3, 1e-4


def rlssl(seconds: float, *, batch_size: int) -> Play:
    """The replay and the Learner of rlssl with the preset `curl`, as its Algorithm calls them."""
    from rlssl.system.allocator import keep_memory

    keep_memory()

    from rlssl.algorithms.off_policy.batches import draw

    document = {
        "algorithm": "sac",
        "preset": "curl",
        "env": "dmc-pixels/cheetah-run",
        "training": {"train_batch_size_per_learner": batch_size, "replay_capacity": NUM_STEPS + 9},
    }
    from rlssl.experiment.spec.building import build_config
    from rlssl.experiment.spec.loading import load_spec

    config = build_config(load_spec(document))
    learner = learner_of(config, FRAME, ACTIONS)
    replay = filled_replay(config, FRAME, ACTIONS, NUM_STEPS)

    needs = learner.needs

    def update() -> int:
        batch = draw(replay, batch_size, n_step=1, gamma=GAMMA, beta=1.0, needs=needs)
        learner.update_on(batch, agent_steps=100_000)
        return 1

    return repeat(_twice(update), seconds)


def _twice(update: Any) -> Any:
    """Two updates, because every second update has the actor's step."""

    def both() -> int:
        return int(update()) + int(update())

    return both


class Encoder(nn.Module):
    """Four convolutions of 3 x 3, a linear layer, a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        for inputs, stride in ((3 * FRAMES, 2), (32, 1), (32, 1), (32, 1)):
            convolutions += [nn.Conv2d(inputs, 32, 3, stride), nn.ReLU()]
        self.convolutions = nn.Sequential(*convolutions, nn.Flatten())
        self.head = nn.Sequential(nn.Linear(32 * 35 * 35, LATENT), nn.LayerNorm(LATENT))

    def forward(self, crops: Tensor, detach: bool = False) -> Tensor:
        """Latents [N, 50]; ``detach``: the convolutions get no gradient."""
        features = self.convolutions(crops / 255.0)
        return self.head(features.detach() if detach else features)


class Critic(nn.Module):
    """An encoder and two value heads."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.heads = nn.ModuleList(relu_mlp(LATENT + ACTIONS.shape[0], 1, HIDDEN) for _ in range(2))

    def forward(self, crops: Tensor, actions: Tensor, detach: bool = False) -> list[Tensor]:
        """Two values [N, 1]."""
        inputs = torch.cat([self.encoder(crops, detach), actions], dim=1)
        return [head(inputs) for head in self.heads]


class PublishedUpdate:
    """SAC with CURL in the order of the published code."""

    def __init__(self, batch_size: int) -> None:
        rng = np.random.default_rng(0)
        shape = (NUM_STEPS, 3 * FRAMES, *FRAME.shape[1:])
        self._frames = rng.integers(256, size=shape, dtype=np.uint8)
        self._actions = rng.uniform(-1, 1, (NUM_STEPS, *ACTIONS.shape)).astype(np.float32)
        self._rewards = rng.standard_normal((NUM_STEPS, 1)).astype(np.float32)
        self._batch_size, self._updates = batch_size, 0
        self._critic, self._actor_encoder = Critic(), Encoder()
        self._target = copy.deepcopy(self._critic)
        self._actor = relu_mlp(LATENT, 2 * ACTIONS.shape[0], HIDDEN)
        self._actor_encoder.convolutions = self._critic.encoder.convolutions
        self._log_alpha = torch.tensor(np.log(0.1), requires_grad=True)
        self._bilinear = nn.Parameter(torch.rand(LATENT, LATENT))
        own = [*self._actor.parameters(), *self._actor_encoder.head.parameters()]
        curl = [self._bilinear, *self._critic.encoder.parameters()]
        adam = partial(torch.optim.Adam, lr=LEARNING_RATE)
        self._optimizers = {
            "critic": adam(self._critic.parameters()),
            "actor": adam(own),
            "encoder": adam(self._critic.encoder.parameters()),
            "curl": adam(curl),
            "alpha": torch.optim.Adam([self._log_alpha], ALPHA_LEARNING_RATE, betas=(0.5, 0.999)),
        }

    def update(self) -> int:
        """Steps critics and CURL; in every second update also actor, temperature and targets."""
        index = np.random.randint(NUM_STEPS - 1, size=self._batch_size)
        crops, next_crops, positives = (
            torch.from_numpy(self._crop(self._frames[rows])).float()
            for rows in (index, index + 1, index)
        )
        actions, rewards = (torch.from_numpy(a[index]) for a in (self._actions, self._rewards))
        alpha = self._log_alpha.exp().detach()
        with torch.no_grad():
            next_actions, next_logp = self._act(next_crops)
            value = torch.min(*self._target(next_crops, next_actions)) - alpha * next_logp
            y = rewards + GAMMA * value
        loss = sum(F.mse_loss(q, y) for q in self._critic(crops, actions))
        self._step(loss, "critic")
        if self._updates % 2 == 0:
            drawn, logp = self._act(crops, detach=True)
            q = torch.min(*self._critic(crops, drawn, detach=True))
            self._step((alpha * logp - q).mean(), "actor")
            entropy_gap = (-logp + ACTIONS.shape[0]).detach()
            self._step((self._log_alpha.exp() * entropy_gap).mean(), "alpha")
            follow(self._critic.heads, self._target.heads, TAU)
            follow(self._critic.encoder, self._target.encoder, ENCODER_TAU)
        anchors = self._critic.encoder(crops)
        with torch.no_grad():
            keys = self._target.encoder(positives)
        logits = anchors @ self._bilinear @ keys.T
        logits = logits - logits.amax(dim=1, keepdim=True)
        loss = F.cross_entropy(logits, torch.arange(len(logits)))
        self._step(loss, "encoder", "curl")
        self._updates += 1
        return 1

    def _act(self, crops: Tensor, detach: bool = False) -> tuple[Tensor, Tensor]:
        mean, log_std = self._actor(self._actor_encoder(crops, detach)).chunk(2, dim=1)
        log_std = -10 + 0.5 * 12 * (torch.tanh(log_std) + 1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        raw = normal.rsample()
        actions = torch.tanh(raw)
        logp = normal.log_prob(raw) - torch.log(F.relu(1 - actions.pow(2)) + 1e-6)
        return actions, logp.sum(1, keepdim=True)

    def _step(self, loss: Any, *names: str) -> None:
        for name in names:
            self._optimizers[name].zero_grad()
        loss.backward()
        for name in names:
            self._optimizers[name].step()

    @staticmethod
    def _crop(frames: np.ndarray) -> np.ndarray:
        """Crops each row at a random place, one row after the other."""
        offsets = np.random.randint(0, FRAME.shape[1] - CROP, size=(2, len(frames)))
        crops = np.empty((*frames.shape[:2], CROP, CROP), frames.dtype)
        for row, (top, left) in enumerate(offsets.T):
            crops[row] = frames[row, :, top : top + CROP, left : left + CROP]
        return crops


def published(seconds: float, *, batch_size: int, keeps_memory: bool) -> Play:
    """The published order in plain torch."""
    if keeps_memory:
        from rlssl.system.allocator import keep_memory

        keep_memory()
    return repeat(_twice(PublishedUpdate(batch_size).update), seconds)


ROWS = (
    Row(
        "curl_sac_update",
        "CURL-SAC update on crops of 9 x 84 x 84, batch 128, two threads",
        "updates",
        (
            Contestant("rlssl", partial(rlssl, batch_size=128), threads=2),
            Contestant("rlssl, 512", partial(rlssl, batch_size=512), threads=2),
            Contestant(
                "published", partial(published, batch_size=128, keeps_memory=False), threads=2
            ),
            Contestant(
                "published, memory kept",
                partial(published, batch_size=128, keeps_memory=True),
                threads=2,
            ),
        ),
        (
            Comparison(("rlssl",), ("published",), must_reach=2.0),
            Comparison(("rlssl",), ("published, memory kept",), must_reach=1.3),
            Comparison(("rlssl, 512",), ("rlssl",), must_reach=4.5, of_time=True),
        ),
    ),
)
