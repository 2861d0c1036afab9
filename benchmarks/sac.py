"""SAC's and DDPG's update on vectors: 17 numbers, 6 actions, batch 256 out of 50,000 transitions.

A unit is an update of everything: draw a batch; step critics, actor and (SAC) temperature; move the
targets. Every contestant has the same networks: two hidden layers of 256 with ReLU.

- "cleanrl" is the algorithm in plain torch as CleanRL describes it. Here its actor learns in each
  update; in CleanRL it does so on average.
- "sb3" is Stable-Baselines3's `train(gradient_steps=1)`, which `learn` calls for every step.
- "sbx" is the same call of SBX (Stable-Baselines in JAX), compiled, in a process that may use one
  core. It computes no norms and does not check for NaN.
- rlssl draws from `rlssl.replay`, checks for NaN, and computes norms and metrics.
"""

import copy
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, UnavailableError, repeat
from benchmarks.off_policy import (
    filled_replay,
    follow,
    learner_of,
    random_episodes,
    relu_mlp,
)
from benchmarks.peers.sbx import updates as sbx_updates

NUM_INPUTS, NUM_ACTIONS, BATCH, NUM_STEPS = 17, 6, 256, 50_000
HIDDEN, LEARNING_RATE, GAMMA, TAU = 256, 3e-4, 0.99, 0.005
OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (NUM_INPUTS,), np.float32)
ACTIONS = gym.spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32)


def rlssl(seconds: float, *, algorithm: str) -> Play:
    """The replay and the Learner of rlssl, as its Algorithm calls them."""
    import rlssl as package
    from rlssl.algorithms.off_policy.batches import draw
    from rlssl.auxiliary.needs import Needs

    configs: dict[str, Any] = {"sac": package.SACConfig, "ddpg": package.DDPGConfig}
    config = (
        configs[algorithm]()
        .model(encoder="mlp", encoder_config={"hidden": []})
        .training(
            critic_hidden=[HIDDEN, HIDDEN],
            actor_hidden=[HIDDEN, HIDDEN],
            tau=TAU,
            n_step=1,
            lr=LEARNING_RATE,
            train_batch_size_per_learner=BATCH,
            replay_capacity=NUM_STEPS,
        )
        .debugging(seed=0, log_level="ERROR")
    )
    learner = learner_of(config, OBSERVATIONS, ACTIONS)
    replay = filled_replay(config, OBSERVATIONS, ACTIONS, NUM_STEPS)

    def update() -> int:
        batch = draw(replay, BATCH, n_step=1, gamma=GAMMA, beta=1.0, needs=Needs())
        learner.update_on(batch, agent_steps=100_000)
        return 1

    return repeat(update, seconds)


class Store:
    """Columns of transitions, drawn uniformly, as plain loops store them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        shapes = ((NUM_INPUTS,), (NUM_INPUTS,), (NUM_ACTIONS,), (1,), (1,))
        self._columns = [
            rng.standard_normal((NUM_STEPS, *shape)).astype(np.float32) for shape in shapes
        ]
        self._columns[2] = np.tanh(self._columns[2])
        self._columns[4] = (rng.random((NUM_STEPS, 1)) < 0.01).astype(np.float32)

    def draw(self) -> list[Tensor]:
        """Observations, next ones, actions [256, A], rewards and terminations [256, 1]."""
        index = np.random.randint(NUM_STEPS, size=BATCH)
        return [torch.from_numpy(column[index]) for column in self._columns]


class Critic(nn.Module):
    """Q(s, a)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = relu_mlp(NUM_INPUTS + NUM_ACTIONS, 1, HIDDEN)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[N, 1]."""
        return self.layers(torch.cat([observations, actions], dim=1))


class CleanSAC:
    """SAC with two critics and a learned temperature."""

    def __init__(self) -> None:
        self._store = Store()
        self._actor = relu_mlp(NUM_INPUTS, 2 * NUM_ACTIONS, HIDDEN)
        self._critics = [Critic(), Critic()]
        self._targets = copy.deepcopy(self._critics)
        parameters = [one for critic in self._critics for one in critic.parameters()]
        self._critic_optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
        self._actor_optimizer = torch.optim.Adam(self._actor.parameters(), LEARNING_RATE)
        self._log_alpha = torch.zeros(1, requires_grad=True)
        self._alpha_optimizer = torch.optim.Adam([self._log_alpha], LEARNING_RATE)

    def update(self) -> int:
        """Critics, actor, temperature, targets."""
        observations, next_observations, actions, rewards, terminated = self._store.draw()
        alpha = self._log_alpha.exp().item()
        with torch.no_grad():
            next_actions, next_logp = self._sample(next_observations)
            values = [target(next_observations, next_actions) for target in self._targets]
            value = torch.min(*values) - alpha * next_logp
            y = rewards + (1 - terminated) * GAMMA * value
        losses = [F.mse_loss(critic(observations, actions), y) for critic in self._critics]
        self._step(self._critic_optimizer, losses[0] + losses[1])
        drawn, logp = self._sample(observations)
        q = torch.min(*[critic(observations, drawn) for critic in self._critics])
        self._step(self._actor_optimizer, (alpha * logp - q).mean())
        with torch.no_grad():
            _, logp = self._sample(observations)
        self._step(self._alpha_optimizer, (-self._log_alpha.exp() * (logp - NUM_ACTIONS)).mean())
        for critic, target in zip(self._critics, self._targets, strict=True):
            follow(critic, target, TAU)
        return 1

    def _sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self._actor(observations).chunk(2, dim=1)
        log_std = -5.0 + 0.5 * 7.0 * (torch.tanh(log_std) + 1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        raw = normal.rsample()
        action = torch.tanh(raw)
        logp = normal.log_prob(raw) - torch.log(1 - action.pow(2) + 1e-6)
        return action, logp.sum(1, keepdim=True)

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class CleanDDPG:
    """DDPG with one critic; actor and targets move in every update."""

    def __init__(self) -> None:
        self._store = Store()
        self._actor = nn.Sequential(relu_mlp(NUM_INPUTS, NUM_ACTIONS, HIDDEN), nn.Tanh())
        self._critic = Critic()
        self._target_actor = copy.deepcopy(self._actor)
        self._target_critic = copy.deepcopy(self._critic)
        self._actor_optimizer = torch.optim.Adam(self._actor.parameters(), LEARNING_RATE)
        self._critic_optimizer = torch.optim.Adam(self._critic.parameters(), LEARNING_RATE)

    def update(self) -> int:
        """Critic, actor, targets."""
        observations, next_observations, actions, rewards, terminated = self._store.draw()
        with torch.no_grad():
            value = self._target_critic(next_observations, self._target_actor(next_observations))
            y = rewards + (1 - terminated) * GAMMA * value
        loss = F.mse_loss(self._critic(observations, actions), y)
        CleanSAC._step(self._critic_optimizer, loss)
        loss = -self._critic(observations, self._actor(observations)).mean()
        CleanSAC._step(self._actor_optimizer, loss)
        follow(self._critic, self._target_critic, TAU)
        follow(self._actor, self._target_actor, TAU)
        return 1


def clean(seconds: float, *, make: Callable[[], Any]) -> Play:
    """CleanRL's update, written from its description."""
    return repeat(make().update, seconds)


class _Spaces(gym.Env[np.ndarray, np.ndarray]):
    """An environment that only gives its spaces."""

    observation_space, action_space = OBSERVATIONS, ACTIONS

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(NUM_INPUTS, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(NUM_INPUTS, np.float32), 0.0, False, False, {}


def sb3(seconds: float, *, algorithm: str) -> Play:
    """Stable-Baselines3's update."""
    if find_spec("stable_baselines3") is None:
        raise UnavailableError("not installed: pip install 'rlssl[bench]'")
    import stable_baselines3
    from torch.nn import ReLU

    critics = {"sac": 2, "ddpg": 1}[algorithm]
    model = getattr(stable_baselines3, algorithm.upper())(
        "MlpPolicy",
        _Spaces(),
        learning_rate=LEARNING_RATE,
        buffer_size=NUM_STEPS,
        batch_size=BATCH,
        tau=TAU,
        gamma=GAMMA,
        policy_kwargs={
            "net_arch": [HIDDEN, HIDDEN],
            "activation_fn": ReLU,
            "n_critics": critics,
        },
        device="cpu",
        seed=0,
    )
    model._setup_learn(total_timesteps=NUM_STEPS)
    for episode in random_episodes(OBSERVATIONS, ACTIONS, NUM_STEPS):
        observations, actions = episode.get_observations(), episode.get_actions()
        for t, reward in enumerate(episode.get_rewards()):
            over = np.array([t == len(episode) - 1])
            step = observations[t], observations[t + 1], actions[t], np.array([reward]), over
            model.replay_buffer.add(*step, [{}])

    def update() -> int:
        model.train(gradient_steps=1, batch_size=BATCH)
        return 1

    return repeat(update, seconds)


def sbx(seconds: float, *, algorithm: str) -> Play:
    """SBX's update."""
    settings = {
        "algorithm": algorithm.upper(),
        "num_inputs": NUM_INPUTS,
        "num_actions": NUM_ACTIONS,
        "batch": BATCH,
        "num_steps": NUM_STEPS,
        "hidden": HIDDEN,
        "learning_rate": LEARNING_RATE,
        "gamma": GAMMA,
        "tau": TAU,
    }
    return repeat(sbx_updates(settings), seconds)


ROWS = (
    Row(
        "sac_update",
        f"SAC update on vectors, batch {BATCH}, from {NUM_STEPS:,} transitions",
        "updates",
        (
            Contestant("rlssl", partial(rlssl, algorithm="sac")),
            Contestant("cleanrl", partial(clean, make=CleanSAC)),
            Contestant("sb3", partial(sb3, algorithm="sac")),
            Contestant("sbx", partial(sbx, algorithm="sac")),
        ),
        (
            Comparison(("rlssl",), ("cleanrl", "sb3"), must_reach=1.2),
            Comparison(("rlssl",), ("sbx",), must_reach=0.85, goal=1.0),
        ),
    ),
    Row(
        "ddpg_update",
        f"DDPG update on vectors, batch {BATCH}, from {NUM_STEPS:,} transitions",
        "updates",
        (
            Contestant("rlssl", partial(rlssl, algorithm="ddpg")),
            Contestant("cleanrl", partial(clean, make=CleanDDPG)),
            Contestant("sb3", partial(sb3, algorithm="ddpg")),
            Contestant("sbx", partial(sbx, algorithm="ddpg")),
        ),
        (
            Comparison(("rlssl",), ("cleanrl",), must_reach=1.0),
            Comparison(("rlssl",), ("sb3",), must_reach=1.5),
            Comparison(("rlssl",), ("sbx",), must_reach=0.85, goal=1.0),
        ),
    ),
)
