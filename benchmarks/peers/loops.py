"""Sampling and PPO without a framework, to compare the frameworks with."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

#: PPO's hyper-parameters, the same for every contestant.
HIDDEN = (64, 64)
LEARNING_RATE, ADAM_EPSILON = 2.5e-4, 1e-5
GAMMA, LAMBDA, CLIP, VALUE_COEFF, MAX_GRAD_NORM = 0.99, 0.95, 0.2, 0.5, 0.5
EPOCHS, MINIBATCHES = 4, 4


def linear(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """Orthogonal weights, zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers with tanh."""
    first, second = HIDDEN
    return nn.Sequential(
        linear(inputs, first),
        nn.Tanh(),
        linear(first, second),
        nn.Tanh(),
        linear(second, outputs, gain),
    )


def cartpoles(num_envs: int, mode: str = "sync") -> gym.vector.VectorEnv:
    """CartPole-v1 as `gymnasium.make_vec` gives it: "sync" or "vector_entry_point"."""
    return gym.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode=mode)


def real_steps(over: np.ndarray, begins_with_reset: np.ndarray) -> int:
    """Steps that were not the reset of NEXT_STEP autoreset.

    Args:
        over: [T, N], bool: the step ended an episode, so the next one resets.
        begins_with_reset: [N], bool: the first step was a reset.
    """
    return over.size - int(over[:-1].sum()) - int(begins_with_reset.sum())


class BareLoop:
    """Vector step, forward pass, sampling, log-probability, rows in preallocated arrays.

    Actions and their log-probabilities are computed in numpy, the fastest known way for a few
    actions. The critic is not run. Of stacked frames, [N, frames, H, W], the newest is stored.
    """

    def __init__(self, env: gym.vector.VectorEnv, policy: nn.Module, num_rows: int) -> None:
        """Resets the environments; ``policy`` maps observations to logits."""
        self._env, self._policy = env, policy
        self._latest, _ = env.reset(seed=0)
        num_envs = env.num_envs
        self._is_stacked = self._latest.ndim == 4
        row = self._newest(self._latest)
        self.observations = np.empty((num_rows, *row.shape), row.dtype)
        self.actions = np.empty((num_rows, num_envs), np.int64)
        self.logp, self.rewards = np.empty((2, num_rows, num_envs), np.float32)
        self.terminated, self.truncated = np.empty((2, num_rows, num_envs), np.bool_)
        self._over = np.zeros(num_envs, np.bool_)
        self._indices, self._rng = np.arange(num_envs), np.random.default_rng(0)

    def run(self) -> int:
        """Fills the arrays once; returns the number of real steps."""
        begins_with_reset = self._over
        with torch.inference_mode():
            for t in range(len(self.actions)):
                self.observations[t] = self._newest(self._latest)
                logits = self._policy(torch.from_numpy(self._latest)).numpy()
                self.actions[t], self.logp[t] = self._sample(logits)
                self._latest, rewards, terminated, truncated, _ = self._env.step(self.actions[t])
                self.rewards[t] = rewards
                self.terminated[t], self.truncated[t] = terminated, truncated
        over = self.terminated | self.truncated
        self._over = over[-1]
        return real_steps(over, begins_with_reset)

    def _newest(self, observations: np.ndarray) -> np.ndarray:
        return observations[:, -1] if self._is_stacked else observations

    def _sample(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples by the largest logit after Gumbel noise; gives actions and log-probabilities."""
        shifted = logits - logits.max(1, keepdims=True)
        noise = np.log(self._rng.standard_exponential(shifted.shape, np.float32))
        actions = (shifted - noise).argmax(1)
        return actions, shifted[self._indices, actions] - np.log(np.exp(shifted).sum(1))


class CleanLoop:
    """PPO as CleanRL describes it: one file, torch tensors throughout, torch's distributions.

    Written from the description (Huang et al. 2022, "The 37 implementation details of PPO").
    Differs: no episode statistics, no logging, no annealing; the critic's loss is not clipped.
    """

    def __init__(self, env: gym.vector.VectorEnv, num_rows: int) -> None:
        """Builds both networks and the storage, and resets the environments."""
        inputs = env.single_observation_space.shape[0]  # type: ignore[index]
        self._env = env
        self.actor = mlp(inputs, int(env.single_action_space.n), gain=0.01)  # type: ignore[attr-defined]
        self.critic = mlp(inputs, 1, gain=1.0)
        self._parameters = [*self.actor.parameters(), *self.critic.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, LEARNING_RATE, eps=ADAM_EPSILON)
        shape = (num_rows, env.num_envs)
        self.observations = torch.zeros(*shape, inputs)
        self.actions = torch.zeros(shape, dtype=torch.int64)
        self.logp, self.rewards, self.begins, self.values = torch.zeros(4, *shape)
        self._latest = torch.as_tensor(env.reset(seed=0)[0])
        self._begins = torch.zeros(env.num_envs)

    def train(self) -> int:
        """Collects and learns once; returns the number of real steps."""
        steps = self.collect()
        self.update()
        return steps

    def collect(self) -> int:
        """Fills the storage; returns the number of real steps."""
        for t in range(len(self.actions)):
            self.observations[t], self.begins[t] = self._latest, self._begins
            with torch.no_grad():
                policy = Categorical(logits=self.actor(self._latest))
                action = policy.sample()
                self.values[t] = self.critic(self._latest).flatten()
            self.actions[t], self.logp[t] = action, policy.log_prob(action)
            latest, reward, terminated, truncated, _ = self._env.step(action.cpu().numpy())
            self.rewards[t] = torch.as_tensor(reward)
            self._latest = torch.as_tensor(latest)
            self._begins = torch.as_tensor(terminated | truncated, dtype=torch.float32)
        return self.begins.numel() - int(self.begins.sum())

    def update(self) -> None:
        """GAE, then minibatch steps on the clipped surrogate."""
        advantages = self._advantages()
        batch = {
            "observations": self.observations.flatten(0, 1),
            "actions": self.actions.flatten(),
            "logp": self.logp.flatten(),
            "advantages": advantages.flatten(),
            "targets": (advantages + self.values).flatten(),
        }
        for _ in range(EPOCHS):
            for rows in torch.randperm(self.actions.numel()).chunk(MINIBATCHES):
                self._optimizer.zero_grad()
                self._loss({key: column[rows] for key, column in batch.items()}).backward()
                nn.utils.clip_grad_norm_(self._parameters, MAX_GRAD_NORM)
                self._optimizer.step()

    @torch.no_grad()
    def _advantages(self) -> Tensor:
        advantages = torch.zeros_like(self.rewards)
        following = torch.zeros(self._env.num_envs)
        next_value, goes_on = self.critic(self._latest).flatten(), 1 - self._begins
        for t in reversed(range(len(self.rewards))):
            error = self.rewards[t] + GAMMA * next_value * goes_on - self.values[t]
            advantages[t] = following = error + GAMMA * LAMBDA * goes_on * following
            next_value, goes_on = self.values[t], 1 - self.begins[t]
        return advantages

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        policy = Categorical(logits=self.actor(batch["observations"]))
        ratio = (policy.log_prob(batch["actions"]) - batch["logp"]).exp()
        advantages = batch["advantages"]
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP) * advantages
        surrogate = -torch.min(ratio * advantages, clipped).mean()
        values = self.critic(batch["observations"]).flatten()
        critic = 0.5 * (values - batch["targets"]).square().mean()
        return surrogate + VALUE_COEFF * critic


def nature_cnn(num_actions: int) -> nn.Module:
    """The network of Mnih et al. 2015 over uint8 [N, 4, 84, 84], as logits of a policy."""

    class Scaled(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            return frames.float() / 255

    layers: list[Any] = [Scaled()]
    for inputs, outputs, kernel, stride in ((4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)):
        layers += [nn.Conv2d(inputs, outputs, kernel, stride), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Flatten(), linear(3136, 512), nn.ReLU(), linear(512, num_actions, 0.01)
    )
