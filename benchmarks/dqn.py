"""DQN's update on Atari frames: Nature-CNN, 84x84x4, batch 32 out of 50,000 frames, draw included.

A unit is an update: draw a batch, forward passes, backward pass, Adam. Every contestant has the
same networks (Nature convolutions, one hidden layer of 512, 6 actions) and random frames.

- "cleanrl" stores stacked uint8 observations and takes the next observation from the next row. It
  draws uniformly. Its loss is the squared error to the target network's largest value.
- "torch" draws nothing: online, target and double-Q passes, backward pass and foreach-Adam on
  tensors that already exist.
- rlssl draws from `rlssl.replay`, checks for NaN, and computes norms, metrics and TD errors; the
  other two do not. "double" adds the online network's pass over the next observations.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat
from benchmarks.off_policy import EPISODE, filled_replay, learner_of
from benchmarks.peers import loops

NUM_FRAMES, NUM_ACTIONS, BATCH, FRAMES = 50_000, 6, 32, 4
GAMMA, LEARNING_RATE = 0.99, 1e-4


def rlssl(seconds: float, *, double: bool, prioritized: bool) -> Play:
    """The replay and the Learner of rlssl's Rainbow, as its Algorithm calls them."""
    learner, replay = _rlssl_parts(double, prioritized)
    from rlssl.algorithms.off_policy.batches import INDICES, draw
    from rlssl.auxiliary.needs import Needs

    def update() -> int:
        batch = draw(replay, BATCH, n_step=1, gamma=GAMMA, beta=0.5, needs=Needs())
        errors = learner.update_on(batch, agent_steps=100_000)
        if prioritized:
            replay.update_priorities(batch[INDICES], errors)
        return 1

    return repeat(update, seconds)


def _rlssl_parts(double: bool, prioritized: bool) -> tuple[Any, Any]:
    import gymnasium as gym

    import rlssl as package

    frame = gym.spaces.Box(0, 255, (1, 84, 84), np.uint8)
    actions: gym.spaces.Discrete = gym.spaces.Discrete(NUM_ACTIONS)
    config = (
        package.RainbowConfig()
        .model(encoder="nature", frame_stack=FRAMES)
        .training(
            double=double,
            dueling=False,
            distributional=False,
            noisy=False,
            td_loss="mse",
            n_step=1,
            lr=LEARNING_RATE,
            grad_clip=None,
            train_batch_size_per_learner=BATCH,
            head_hidden=[512],
            replay_capacity=NUM_FRAMES,
            replay={"prioritized": prioritized},
        )
        .debugging(seed=0, log_level="ERROR")
    )
    learner = learner_of(config, frame, actions)
    return learner, filled_replay(config, frame, actions, NUM_FRAMES)


def _frames(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.integers(256, size=(num, 84, 84), dtype=np.uint8)


class CleanUpdate:
    """The replay buffer and the update of a plain loop."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        # Written once, so that memory pages exist; random enough for arithmetic.
        self.observations = np.tile(_frames(rng, 500)[:, None], (NUM_FRAMES // 500, FRAMES, 1, 1))
        self.actions = rng.integers(NUM_ACTIONS, size=NUM_FRAMES)
        self.rewards = rng.standard_normal(NUM_FRAMES).astype(np.float32)
        self.dones = (np.arange(NUM_FRAMES) % EPISODE == 0).astype(np.float32)
        self.online, self.target = _network(), _network()
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=LEARNING_RATE)

    def update(self) -> int:
        """Draws and learns."""
        index = np.random.randint(NUM_FRAMES - 1, size=BATCH)
        observations = torch.from_numpy(self.observations[index])
        next_observations = torch.from_numpy(self.observations[index + 1])
        actions = torch.from_numpy(self.actions[index])
        rewards, dones = (torch.from_numpy(a[index]) for a in (self.rewards, self.dones))
        with torch.no_grad():
            best = self.target(next_observations).amax(dim=1)
            targets = rewards + GAMMA * best * (1 - dones)
        values = self.online(observations).gather(1, actions[:, None]).squeeze(1)
        loss = F.mse_loss(targets, values)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return 1


class BareUpdate:
    """Only the arithmetic, on one batch that already exists."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        shape = (BATCH, FRAMES, 84, 84)
        self.observations, self.next_observations = (
            torch.from_numpy(rng.integers(256, size=shape, dtype=np.uint8)) for _ in range(2)
        )
        self.actions = torch.from_numpy(rng.integers(NUM_ACTIONS, size=BATCH))
        self.rewards = torch.from_numpy(rng.standard_normal(BATCH).astype(np.float32))
        self.online, self.target = _network(), _network()
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=LEARNING_RATE, foreach=True)

    def update(self) -> int:
        """Online, target and double-Q passes, backward, Adam."""
        with torch.no_grad():
            best = self.online(self.next_observations).argmax(dim=1)
            chosen = self._of(self.target(self.next_observations), best)
            targets = self.rewards + GAMMA * chosen
        values = self._of(self.online(self.observations), self.actions)
        loss = F.mse_loss(values, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return 1

    @staticmethod
    def _of(values: Tensor, actions: Tensor) -> Tensor:
        return values.gather(1, actions[:, None]).squeeze(1)


def _network() -> nn.Module:
    return loops.nature_cnn(NUM_ACTIONS)


def cleanrl(seconds: float) -> Play:
    """CleanRL's update, written from its description."""
    return repeat(CleanUpdate().update, seconds)


def bare(seconds: float) -> Play:
    """Only torch."""
    return repeat(BareUpdate().update, seconds)


ROWS = (
    Row(
        "dqn_update",
        f"DQN update, Nature-CNN, batch {BATCH}, from {NUM_FRAMES:,} frames",
        "updates",
        (
            Contestant("rlssl", partial(rlssl, double=False, prioritized=False)),
            Contestant("rlssl double", partial(rlssl, double=True, prioritized=False)),
            Contestant("rlssl prioritized", partial(rlssl, double=True, prioritized=True)),
            Contestant("cleanrl", cleanrl),
            Contestant("torch", bare),
        ),
        (
            Comparison(("rlssl",), ("cleanrl",), must_reach=1.0),
            Comparison(("rlssl double",), ("torch",), must_reach=0.9),
            Comparison(("rlssl prioritized",), ("rlssl double",), must_reach=0.95),
        ),
        seconds=4.0,
    ),
)
